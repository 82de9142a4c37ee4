package record

import (
	"encoding/hex"
	"hash"
	"time"
)

// Outcome of a job, by what the driver saw.
type Outcome string

// Outcomes.
const (
	OK       Outcome = "ok"       // the script's last step ended with 0, and no stage failed
	Failed   Outcome = "failed"   // a stage failed
	Refused  Outcome = "refused"  // it was not let in, or what it stores was not let out
	Canceled Outcome = "canceled" // the runner ended it early, or was gone
	System   Outcome = "system"   // all else: the host, the engine, a driver that was killed
)

// Job is one room of a job, from its prepare to its end. A prepare that the
// runner tries again has a room, and a record, each time.
type Job struct {
	Room      string     `json:"room" max:"64"`
	Job       int64      `json:"job,omitempty"`
	Project   string     `json:"project,omitempty" max:"500"`
	Began     time.Time  `json:"began,omitzero"`
	Tries     int        `json:"tries,omitempty"` // prepares in this room, if there was more than one
	Outcome   Outcome    `json:"outcome"`
	Stage     string     `json:"stage,omitempty" max:"128"` // that made the outcome
	Profile   string     `json:"profile,omitempty" max:"20"`
	Pooled    *time.Time `json:"pooled,omitempty"` // when the room was made, which waited for such a job
	Facts     []Fact     `json:"facts,omitempty" max:"50"`
	Policy    string     `json:"policy,omitempty" max:"64"` // policy.Version
	Decisions []Decision `json:"decisions,omitempty" max:"400"`
	Images    []Image    `json:"images,omitempty" max:"100"`
	Secrets   []Secret   `json:"secrets,omitempty" max:"400"`
	Stages    []Stage    `json:"stages,omitempty" max:"200"`
	Guard     []Finding  `json:"guard,omitempty" max:"200"`
	Refusals  []Refusal  `json:"refusals,omitempty" max:"50"`
	Artifacts []Artifact `json:"artifacts,omitempty" max:"200"`
	// Provenance of what it stored, one for each upload.
	Provenance []Provenance `json:"provenance,omitempty" max:"10"`
	End        End          `json:"end"`
	Gaps       []string     `json:"gaps,omitempty" max:"20,300"` // what this record lacks, and why
}

// Fact is what was believed of the job, and who vouches for it.
type Fact struct {
	Fact   string `json:"fact" max:"40"`
	Is     any    `json:"is" max:"600"` // string, bool or int64
	Source string `json:"source" max:"300"`
}

// Decision is the policy's answer to one wish of the job.
type Decision struct {
	Kind    string   `json:"kind" max:"20"` // secret, image, service, profile, warn, cache
	Name    string   `json:"name" max:"300"`
	Allowed bool     `json:"allowed"`
	Rule    string   `json:"rule,omitempty" max:"100"`
	Stages  []string `json:"stages,omitempty" max:"20,128"`
	Tokens  []string `json:"identity,omitempty" max:"20,100"` // identity profiles that were demanded
	Reason  string   `json:"reason" max:"600"`
}

// Image is what a container was made from.
type Image struct {
	Role   string `json:"role" max:"10"` // helper, job, service
	Name   string `json:"name" max:"300"`
	ID     string `json:"id,omitempty" max:"100"`     // what ran
	Digest string `json:"digest,omitempty" max:"400"` // name@sha256:..., if a registry gave one
}

// Secret is what the job was given, by name. Its leases are what was taken
// back; one without is good as long as its source says.
type Secret struct {
	Name      string    `json:"name" max:"100"`
	Provider  string    `json:"provider" max:"100"`
	Rule      string    `json:"rule,omitempty" max:"100"`
	Stages    []string  `json:"stages,omitempty" max:"20,128"` // that got it; none: the user's own
	Version   string    `json:"version,omitempty" max:"200"`
	Rotated   time.Time `json:"rotated,omitzero"`
	Issued    time.Time `json:"issued,omitzero"`
	Expires   time.Time `json:"expires,omitzero"`
	Revocable bool      `json:"revocable,omitempty"` // revoking its leases ends the value itself
	Leases    []Lease   `json:"leases,omitempty" max:"50"`
	Outcome   string    `json:"outcome" max:"10"` // revoked, expires, failed, standing, unknown
}

// Lease is one thing that a provider gave and that names nothing but itself.
type Lease struct {
	ID      string    `json:"id" max:"300"`
	Issued  time.Time `json:"issued,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`   // when the outcome was known
	Outcome string    `json:"outcome" max:"10"` // revoked, expires, failed, unknown
	Error   string    `json:"error,omitempty" max:"300"`
}

// Stage is one that began.
type Stage struct {
	Stage       string    `json:"stage" max:"128"`
	Container   string    `json:"container,omitempty" max:"10"` // helper, job; none: prepare
	Began       time.Time `json:"began,omitzero"`
	Millis      int64     `json:"ms,omitempty"`
	Exit        *int      `json:"exit,omitempty"`  // of its script, if there was one and it ended
	Result      string    `json:"result" max:"10"` // ok, failed, canceled, system, unknown
	OutOfMemory bool      `json:"out_of_memory,omitempty"`
	Output      *Output   `json:"output,omitempty"`
	Redacted    []Count   `json:"redacted,omitempty" max:"50"`
}

// Output is all that a stage put into the job's log, as bytes, after
// redaction. Marks are where one can say how much of a changed or cut log is
// still as it was.
type Output struct {
	Bytes  int64    `json:"bytes"`
	SHA256 string   `json:"sha256" max:"64"`             // hex
	Every  int64    `json:"every,omitempty"`             // bytes from one mark to the next
	Marks  []string `json:"marks,omitempty" max:"16,32"` // of so many bytes from the beginning: hex, the first 16 bytes of the SHA-256
}

// Mark is one of Output.Marks, of the SHA-256 so far.
func Mark(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)[:16]) }

// Count is how often a secret was hidden in a stage's output.
type Count struct {
	Name  string `json:"name" max:"100"`
	Times int    `json:"times"`
}

// Finding is what the guard found in what a stage would store.
type Finding struct {
	Stage      string   `json:"stage" max:"128"`
	Path       string   `json:"path" max:"300"`
	Members    []string `json:"members,omitempty" max:"8,200"` // of archives, outermost first
	Name       string   `json:"secret,omitempty" max:"100"`
	Unsearched string   `json:"unsearched,omitempty" max:"300"` // why it could not be looked into
	Action     string   `json:"action" max:"10"`                // refused, warned
	Rule       string   `json:"rule,omitempty" max:"100"`       // that lets it be stored
}

// Refusal is what the job was told.
type Refusal struct {
	Stage  string `json:"stage" max:"128"`
	Reason string `json:"reason" max:"10"` // policy, identity, secret, request, guard
	Says   string `json:"says" max:"600"`
}

// Artifact is a file that the job stored, as the guard saw it.
type Artifact struct {
	Stage  string `json:"stage" max:"128"`
	Path   string `json:"path" max:"300"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256" max:"64"`
}

// Provenance is an envelope that was signed for what one stage stored.
type Provenance struct {
	Stage    string `json:"stage" max:"128"`
	SHA256   string `json:"sha256" max:"64"` // of the envelope, as a line
	Subjects int    `json:"subjects"`
	Files    int    `json:"files"`              // that it is about
	Withheld int    `json:"withheld,omitempty"` // that it is silent about, as secrets are in them
}

// End is the evidence of one try at ending a room.
type End struct {
	Why      string `json:"why" max:"300"`
	Millis   int64  `json:"ms,omitempty"`
	Removed  []Item `json:"removed,omitempty" max:"400"`
	Left     []Item `json:"left,omitempty" max:"200"` // what a second look still found
	Complete bool   `json:"complete"`                 // nothing is left, and no lease
	Error    string `json:"error,omitempty" max:"600"`
}

// Item is one thing on the engine or on the host.
type Item struct {
	Kind string `json:"kind" max:"40"`
	Name string `json:"name" max:"300"`
	Why  string `json:"why,omitempty" max:"200"`
}
