// Package provenance has what is said of a job's artifacts, and keeps the
// envelopes in which it was said. Package slsa below it makes and reads them:
// apart, as what it is made with takes long to load, and only a stage that
// uploads artifacts signs.
package provenance

import (
	"errors"
	"time"

	"cleanroom/executor/identity"
)

// MaxStatement bounds a statement, in bytes, and MaxEnvelope an envelope:
// base64 makes four of three.
const (
	MaxStatement = 2 << 20
	MaxEnvelope  = MaxStatement/3*4 + 4096
)

// Errors of making a statement.
var (
	// ErrNoSubject is a job that stores no regular file, or none that may be
	// told of.
	ErrNoSubject = errors.New("the job stores no file that provenance could be about")
	// ErrJob is a job of which not enough, or too much, is known.
	ErrJob = errors.New("no provenance can be made for this job")
)

// Job is what is said of a job.
type Job struct {
	Facts      identity.Facts
	Repository string // git_info.repo_url; the login in it is left out
	Images     []Image
	Artifacts  []Artifact
	Stage      string // the runner's, which stores the files
	Profile    string

	Builder string // the URI of what ran the job, as its admin names it
	Version string // of cleanroom

	Started, Finished time.Time // kept to the second
}

// Image is one that a container of the room was made of.
type Image struct {
	Role   string // helper, job, service
	Digest string // NAME@sha256:HEX, if a registry gave one
	ID     string // the engine's, sha256:HEX
}

// Artifact is one that the job stores.
type Artifact struct {
	Type string // artifact, or the report's type
	Name string // as .gitlab-ci.yml has it
}

func (a Artifact) String() string {
	if a.Name == "" {
		return a.Type
	}
	return a.Type + " " + a.Name
}

// File is a regular file that the job stores.
type File struct {
	Path string // below the project's folder: any bytes but zero
	// SHA256 of its content; nil: it is withheld, and only counted.
	SHA256 []byte
	// Artifacts that it may be part of, by their place in Job.Artifacts,
	// ascending.
	Artifacts []int
}

// Envelope is a statement that was signed: a line of a .jsonl file, with its
// end.
type Envelope struct {
	Line     []byte
	Subjects int // of the statement
}
