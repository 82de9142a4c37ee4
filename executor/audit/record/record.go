// Package record says what an audit record is: what is kept, for auditors, of
// a job and of what else happened to what cleanroom guards.
//
// What it promises: a record never holds a secret's value, a hash of one, or
// anything that one could be guessed from; it is canonical JSON (RFC 8785) of
// a versioned schema (schema.Schema), at most MaxSize bytes, whatever a job's author
// named things: what was too much is cut, always in the same way, and the
// record says so; and Decode takes nothing but what Encode gives.
package record

import "time"

// Version of the schema. A field that is added, or means something else, makes
// a new one.
const Version = 2

// Kind is what a record is about. The body of each has its name.
type Kind string

// Kinds.
const (
	OfJob    Kind = "job"    // a room was ended, or an ending was tried, for the first time
	OfReap   Kind = "reap"   // and a later time
	OfConfig Kind = "config" // the configuration is another than it was
	OfPolicy Kind = "policy" // the rules are others than they were
	OfSecret Kind = "secret" // somebody changed a secret in the store
	OfCache  Kind = "cache"  // caches were wiped
	OfKey    Kind = "key"    // the log is signed with another key
	OfBegun  Kind = "begun"  // a log begins
)

// Record is one entry of the log. Lists and texts that are left out are empty,
// times that are left out are not known.
type Record struct {
	Version int       `json:"version"`
	Kind    Kind      `json:"kind"`
	ID      string    `json:"id" max:"32"` // MakeID; the same thing told twice has the same
	At      time.Time `json:"at"`          // when it was written, or done
	Host    Host      `json:"host"`
	By      By        `json:"by"`

	Job    *Job    `json:"job,omitempty"`
	Reap   *Reap   `json:"reap,omitempty"`
	Config *Config `json:"config,omitempty"`
	Policy *Policy `json:"policy,omitempty"`
	Secret *Change `json:"secret,omitempty"`
	Cache  *Cache  `json:"cache,omitempty"`
	Key    *Key    `json:"key,omitempty"`
	Begun  *Begun  `json:"begun,omitempty"`

	Cut []Cut `json:"cut,omitempty"` // what there was no room for
}

// Host is the machine that wrote the record, by its own word.
type Host struct {
	Name      string `json:"name" max:"255"`
	Cleanroom string `json:"cleanroom" max:"100"` // version of the program
}

// By is who did what the record tells: a command, and the user who ran it.
type By struct {
	Command string `json:"command" max:"60"`
	UID     int    `json:"uid"`
	User    string `json:"user,omitempty" max:"64"`
}

// Cut is how many entries of a list were left out. They were the last ones.
type Cut struct {
	List    string `json:"list" max:"60"`
	Dropped int    `json:"dropped"`
}

// Reap is a later try at ending a room whose job has its record.
type Reap struct {
	Room    string   `json:"room" max:"64"`
	Job     int64    `json:"job,omitempty"`
	Project string   `json:"project,omitempty" max:"500"`
	Record  string   `json:"record,omitempty" max:"32"` // id of the job's
	Secrets []Secret `json:"secrets,omitempty" max:"1000"`
	End     End      `json:"end"`
}

// Config is a change of the configuration, by hashes of what it says; texts in
// it that may hold a password do not count.
type Config struct {
	Before   string   `json:"before,omitempty" max:"64"` // empty: nothing was known
	After    string   `json:"after" max:"64"`
	Sections []string `json:"sections,omitempty" max:"100,100"` // that are not as they were
}

// Policy is a change of the rules, by policy.Version and by name.
type Policy struct {
	Before  string   `json:"before,omitempty" max:"64"`
	After   string   `json:"after" max:"64"`
	Added   []string `json:"added,omitempty" max:"1000,100"`
	Removed []string `json:"removed,omitempty" max:"1000,100"`
	Changed []string `json:"changed,omitempty" max:"1000,100"`
	Moved   bool     `json:"moved,omitempty"` // those that stay are in another order
}

// Change of a secret in the store.
type Change struct {
	Name     string `json:"name" max:"100"`
	Provider string `json:"provider" max:"100"`
	Action   string `json:"action" max:"10"`             // set, rotated, removed, destroyed
	Version  string `json:"version,omitempty" max:"200"` // the one made, or destroyed
}

// Cache is a wipe of caches.
type Cache struct {
	Caches []string `json:"caches,omitempty" max:"1000,200"` // project and key
	Left   []Item   `json:"left,omitempty" max:"1000"`
}

// Key is a change of the key that signs the log.
type Key struct {
	Before string `json:"before,omitempty" max:"300"` // as a note's verifier names it
	After  string `json:"after" max:"300"`
	Signer string `json:"signer" max:"10"` // where it is: file, command
}

// Begun is the first record of a log.
type Begun struct {
	Origin string `json:"origin" max:"255"`
	Key    string `json:"key" max:"300"`
}
