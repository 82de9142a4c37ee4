// Package sandbox says what an engine must do to give a job its clean room.
// It knows containers, streams and limits; it knows neither GitLab nor what
// is secret in what it is handed. Nothing here assumes that the engine runs
// on this machine.
package sandbox

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"time"
)

// Errors that tell whose fault it is. An error that wraps ErrUser will not
// get better by trying again: the image, a service or the job's own words are
// wrong. Everything else is the engine's or the host's.
var (
	ErrUser   = errors.New("user error")
	ErrNoRoom = errors.New("no such room")
)

// Engine makes rooms, runs stages in them and wipes them. Rooms are found by
// name alone, so any process can take over from one that died.
type Engine interface {
	// Make builds the room whole: images present, containers running,
	// services ready. A room (or half of one) of the same name is wiped
	// first. Progress for the job's author is written to w.
	Make(ctx context.Context, spec Spec, w io.Writer) error
	// Stock makes a room ahead of its job, as far as that goes without one: its
	// containers run and nothing in them does. Of spec, Key and what containers
	// are handed (Env, Entrypoint, Files) do not count, and Services must be
	// empty. The print is for Spec.Stocked. A room of the same name is wiped first.
	Stock(ctx context.Context, spec Spec, w io.Writer) (print string, err error)
	// Fits tells whether Make would still take the room that Stock made.
	Fits(ctx context.Context, spec Spec, print string) (bool, error)
	// Run runs one stage. When ctx ends the stage's process tree gets TERM,
	// and KILL after Stage.Grace. An error means that the stage's own
	// result is not known.
	Run(ctx context.Context, stage Stage) (Result, error)
	// Retire is told that no stage comes any more, by whoever wipes the room
	// next: what can end by itself begins to. The only error is ErrNoRoom, where
	// nothing is known of the room; all else the wipe finds.
	Retire(ctx context.Context, room string, key [32]byte) error
	// Wipe removes everything of the named room and looks again. A room
	// that is not there is no error. Images stay, unless the engine was told
	// otherwise.
	Wipe(ctx context.Context, room string) (Evidence, error)
	// Rooms lists what is on the engine, whoever made it.
	Rooms(ctx context.Context) ([]RoomInfo, error)
	// Usage says what each room uses now, by its name. It takes a few seconds
	// at most; what does not answer in them is not known.
	Usage(ctx context.Context) (map[string]Usage, error)
	Close() error
}

// Profile is how hard a room's walls are.
type Profile string

// The three profiles, softest first.
const (
	Compatible Profile = "compatible"
	Hardened   Profile = "hardened"
	Strict     Profile = "strict"
)

// Role tells the containers of a room apart.
type Role string

// Roles.
const (
	Helper  Role = "helper"
	Job     Role = "job"
	Service Role = "service"
)

// Spec is a whole room.
type Spec struct {
	Name     string            // unique on the engine: [a-z0-9][a-z0-9-]*
	Labels   map[string]string // who it is for; never a variable of the job
	Deadline time.Time         // after this anyone may wipe it
	Key      [32]byte          // what init and we know each other by
	Profile  Profile
	User     string // uid[:gid] for root images under Strict
	Helper   Container
	Job      Container
	Services []Container
	Builds   Volume
	Cache    Volume // the helper's alone; Path empty: none
	Network  Network
	CABundle string // a PEM file on this machine, for every container

	// Stocked, unless nil, says that Stock made a room of this name ahead. Make
	// takes that room if nobody has used it and it is, down to each parameter,
	// the one that Make would make now; else it wipes it and makes another.
	Stocked *Stocked

	// Found is told of each image, one after another, when all are there. nil:
	// nobody asks.
	Found func(Picture)

	EntrypointTimeout time.Duration
	ServiceTimeout    time.Duration
	PullTimeout       time.Duration
}

// Stocked is a room that Stock made.
type Stocked struct {
	Print string
	// Told is told once whether Make takes the room: nil, or why not. nil: nobody
	// asks.
	Told func(why error)
}

// Picture is an image that a container is made from.
type Picture struct {
	Role   Role
	Name   string // as the Container has it
	ID     string // what runs, whatever the name stands for later
	Digest string // name@sha256:..., where a registry gave one
}

// Container is one container of a room.
type Container struct {
	Image        string
	PullPolicies []string // tried in order: always, if-not-present, never
	Auth         Credentials
	Platform     string // os/arch[/variant], empty: the engine's
	User         string // as the job asks; empty: the image's
	Entrypoint   []string
	Command      []string
	Env          []string // KEY=VALUE; reaches the process by stream only
	Aliases      []string // host names in the room (services)
	Ports        []int    // wait for these instead of the exposed ones
	Limits       Limits

	// FilesDir is the folder where the container gets Files and those of its
	// stages: an absolute path, outside of every other folder that a room
	// brings. A tmpfs of the container's own is there, which only the user who
	// runs its stages may enter, and which needs Limits.Memory (it counts
	// towards that; without a limit the kernel could swap it out). Empty: none.
	FilesDir string
	// FilesSize is the tmpfs's size in bytes, at most MaxFilesSize; 0 means
	// DefaultFilesSize. A file takes whole pages of memory (4 KiB).
	FilesSize int64
	// Files are there before a service's command starts, for its whole life,
	// and belong to the user that the container starts as. Services only: a
	// job gets its files stage by stage.
	Files []File
}

// Sizes of a FilesDir, in bytes.
const (
	DefaultFilesSize = 1 << 20
	MaxFilesSize     = 8 << 20
)

// File is one file of a FilesDir. What it holds reaches the container by
// stream only, as an environment does.
type File struct {
	Name string      // one path component of at most 255 bytes, not beginning with ".."
	Mode fs.FileMode // permission bits only; 0 means 0400
	Data []byte
}

// CAPath is where every container of a room with a CABundle finds it.
const CAPath = "/.cleanroom/ca.pem"

// Credentials finds the registry login for an image reference, as the
// engine's X-Registry-Auth wants it; empty means anonymous.
type Credentials func(ctx context.Context, image string) (auth, source string, err error)

// Limits of one container; zero means none (or the engine's default).
type Limits struct {
	Memory int64 // bytes
	CPUs   float64
	Pids   int64
	Shm    int64 // bytes
}

// Volume is a folder that containers of the room share.
type Volume struct {
	Path  string
	Tmpfs bool
	Size  int64 // bytes, tmpfs only
}

// Network of the room.
type Network struct {
	ExtraHosts []string
	DNS        []string
	DNSSearch  []string
	MTU        int
}

// Stage is one script run in one container of a room.
type Stage struct {
	Room   string
	Key    [32]byte
	Name   string
	Role   Role
	Env    []string
	Files  []File // in the container's FilesDir, from the stage's beginning to its end
	Script io.Reader
	Output io.Writer // what it prints, on stdout and stderr alike, in order
	// Mask is asked to hide a value, between two Writes of Output, when the
	// stage runs cleanroom-mask: what is printed after it has returned nil is
	// written after that. The job reads its error. nil: refused.
	Mask  func(value string) error
	Store *Store // nil: it stores nothing
	// Before and After, unless nil, are called before the script runs and, if it
	// ended by itself and well, after it. An error ends the stage and is returned
	// as it is.
	Before, After func(ctx context.Context, c Inside) error
	Grace         time.Duration
}

// Result is how a stage ended.
type Result struct {
	ExitCode int // 128+signal when a signal ended it
	Signal   int
	OOM      bool
	Canceled bool
}

// Evidence is what a wipe removed and what a second look still found.
type Evidence struct {
	Removed []Item
	Left    []Item
}

// Item is one thing on the engine or on the host.
type Item struct {
	Kind string `json:"kind"` // container, volume, network, image, file
	Name string `json:"name"`
	Why  string `json:"why,omitempty"` // of one that is left
}

// RoomInfo is a room as the engine's labels tell it.
type RoomInfo struct {
	Name     string
	Labels   map[string]string // of its latest deadline
	Deadline time.Time         // zero: no label tells one
	Created  time.Time
	Running  bool // one of its containers does
	Stopped  bool // one of its containers does not
}

// Usage is what a room uses at one moment, all its containers together.
type Usage struct {
	Image   string // of the job container, as the engine names it; empty: there is none yet
	ImageID string
	// Known says that each container of the room told what it uses.
	Known  bool
	CPU    float64 // percent of one processor
	Memory int64   // bytes, without what the kernel caches of files and can drop
}
