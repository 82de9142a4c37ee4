package docker

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/filters"

	"cleanroom/sandbox"
)

// Labels on everything of a room. Nothing of a job's variables is ever a label.
const (
	labelRoom     = "cleanroom.room"
	labelRole     = "cleanroom.role"
	labelDeadline = "cleanroom.deadline" // Unix seconds
	labelFiles    = "cleanroom.files"    // on containers: their FilesDir, or empty
	labelNetwork  = "cleanroom.network"  // byWire on containers of a room that has no network of the engine's
)

func labels(spec sandbox.Spec, role string) map[string]string {
	l := map[string]string{
		labelRoom:     spec.Name,
		labelRole:     role,
		labelDeadline: strconv.FormatInt(spec.Deadline.Unix(), 10),
		labelNetwork:  "", // or an image could bring its own
	}
	for k, v := range spec.Labels {
		l["cleanroom."+k] = v
	}
	return l
}

// deadline is zero for what we never write: no number, or none of this age.
func deadline(labels map[string]string) time.Time {
	s, err := strconv.ParseInt(labels[labelDeadline], 10, 64)
	if err != nil || s <= 0 || s > 1<<36 { // time.Unix overflows
		return time.Time{}
	}
	return time.Unix(s, 0)
}

func ofRoom(name string) filters.Args {
	if name == "" {
		return filters.NewArgs(filters.Arg("label", labelRoom))
	}
	return filters.NewArgs(filters.Arg("label", labelRoom+"="+name))
}

// random tells apart what is made more than once in a room.
func random() string {
	var b [4]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func containerName(room string, role sandbox.Role) string { return room + "-" + string(role) }

func serviceName(room string, i int) string { return room + "-service-" + strconv.Itoa(i) }

// runVolume carries a container's socket: a tmpfs of its own, so that a job
// can neither reach another container's init nor fill the host's memory.
func runVolume(container string) string { return container + "-run" }

func buildsVolume(room string) string { return room + "-builds" }

func cacheVolume(room string) string { return room + "-cache" }

func innerNetwork(room string) string { return room }

func outerNetwork(room string) string { return room + "-out" }
