package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	sizes "github.com/docker/go-units" // units are systemd's here
	"github.com/spf13/cobra"

	"cleanroom/executor"
	"cleanroom/executor/plain"
	"cleanroom/executor/pool"
	"cleanroom/executor/secret"
	"cleanroom/sandbox"
)

// roomNow is a room as `room list --json` shows it; its names are the admin's
// scripts' to rely on. What is not known is null.
type roomNow struct {
	Room       string            `json:"room"`
	Job        int64             `json:"job"`
	Project    string            `json:"project"`
	Image      *string           `json:"image"` // of the job container
	ImageID    *string           `json:"image_id"`
	Created    time.Time         `json:"created"`
	AgeSeconds int64             `json:"age_seconds"`
	Deadline   time.Time         `json:"deadline"`
	Stage      *string           `json:"stage"` // that runs now; prepare and cleanup among them
	StageBegan *time.Time        `json:"stage_began"`
	CPUPercent *float64          `json:"cpu_percent"` // of one processor, all containers together
	Memory     *int64            `json:"memory_bytes"`
	Labels     map[string]string `json:"labels"` // on the engine
}

func roomList(g *globals) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "List rooms: who has them, what runs, what they use", Args: cobra.NoArgs,
		Long: "List rooms with job, project, image of the job container, age, deadline, the stage that runs now, and the\n" +
			"processor (percent of one) and memory of all containers together, over half a second. \"-\" is what is not\n" +
			"there, or not known: the engine did not tell in time; a stage is known on the driver's own machine only.\n\n" +
			"--json has room, job, project, image, image_id, created, age_seconds, deadline, stage, stage_began,\n" +
			"cpu_percent, memory_bytes and labels; null is what is not known.",
		Example: "  cleanroom room list\n  cleanroom room list --json",
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := g.roomsNow(c)
			if err != nil {
				return err
			}
			if asJSON {
				return plainJSON(c.OutOrStdout(), all)
			}
			return showRooms(c.OutOrStdout(), all)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (g *globals) roomsNow(c *cobra.Command) ([]roomNow, error) {
	cfg, err := g.load()
	if err != nil {
		return nil, err
	}
	engine, rooms, err := g.rooms(c.Context())
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	if rooms, err = withJournals(cfg.DataDir, rooms); err != nil {
		return nil, err
	}
	all := []roomNow{} // in JSON a list, though there is none
	if len(rooms) == 0 {
		return all, nil
	}
	usage, err := engine.Usage(c.Context())
	if err != nil { // the rooms themselves are worth being shown
		fmt.Fprintln(c.ErrOrStderr(), "cleanroom: what the rooms use is not known:", err)
	}
	for _, r := range rooms {
		all = append(all, nowOf(r, usage[r.Name], cfg.StateDir))
	}
	return all, nil
}

func nowOf(r sandbox.RoomInfo, u sandbox.Usage, stateDir string) roomNow {
	n := roomNow{Room: r.Name, Project: r.Labels["cleanroom.project"], Created: r.Created.UTC(), Deadline: r.Deadline.UTC(),
		AgeSeconds: int64(time.Since(r.Created).Seconds()), Labels: r.Labels}
	n.Job, _ = strconv.ParseInt(r.Labels["cleanroom.job"], 10, 64)
	if u.Image != "" {
		n.Image, n.ImageID = &u.Image, &u.ImageID
	}
	if stage, began := executor.RunningStage(stateDir, r.Name); stage != "" {
		n.Stage, n.StageBegan = &stage, &began
	}
	if u.Known {
		n.CPUPercent, n.Memory = &u.CPU, &u.Memory
	}
	return n
}

func showRooms(out io.Writer, all []roomNow) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ROOM\tJOB\tPROJECT\tIMAGE\tAGE\tDEADLINE\tSTAGE\tCPU\tMEMORY")
	for _, r := range all {
		cpu, memory := "-", "-"
		if r.CPUPercent != nil {
			cpu = fmt.Sprintf("%.0f%%", *r.CPUPercent)
		}
		if r.Memory != nil {
			memory = sizes.BytesSize(float64(*r.Memory))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Room, dash(r.Labels["cleanroom.job"]), dash(r.Project), dashed(r.Image),
			time.Duration(r.AgeSeconds)*time.Second, r.Deadline.Format(time.RFC3339), dashed(r.Stage), cpu, memory)
	}
	return w.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return plain.Word(s)
}

func dashed(s *string) string {
	if s == nil {
		return "-"
	}
	return dash(*s)
}

// plainJSON prints a line of JSON, as a terminal may have it.
func plainJSON(out io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = out.Write(append(plain.JSON(text), '\n'))
	return err
}

// withJournals adds rooms that are gone from the engine and still have leases,
// and says whose those are that were made ahead: their labels do not.
func withJournals(dataDir string, rooms []sandbox.RoomInfo) ([]sandbox.RoomInfo, error) {
	names, err := secret.Rooms(dataDir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		at := slices.IndexFunc(rooms, func(r sandbox.RoomInfo) bool { return r.Name == name })
		if at >= 0 && !pool.Named(name) {
			continue
		}
		head, err := secret.Peek(dataDir, name)
		if errors.Is(err, fs.ErrNotExist) { // ended meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		room := sandbox.RoomInfo{Name: name, Created: head.Began, Deadline: head.Deadline, Labels: map[string]string{}}
		if at >= 0 {
			maps.Copy(room.Labels, rooms[at].Labels)
			rooms = slices.Delete(rooms, at, at+1)
		}
		room.Labels["cleanroom.job"], room.Labels["cleanroom.project"] = strconv.FormatInt(head.Job, 10), head.Project
		rooms = append(rooms, room)
	}
	return rooms, nil
}
