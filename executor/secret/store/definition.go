package store

import (
	"fmt"
	"strings"
	"time"
)

// Rotation says when a secret gets a new value by itself; the zero value is
// never.
type Rotation struct {
	PerJob bool          // each job has a version of its own
	Every  time.Duration // the first fetch after so long makes a new version
}

// minEvery keeps a typo ("30" read as nanoseconds) from rotating at each fetch.
const minEvery = time.Minute

// ParseRotation reads job, never or a duration like 720h.
func ParseRotation(text string) (Rotation, error) {
	switch text {
	case "job":
		return Rotation{PerJob: true}, nil
	case "never":
		return Rotation{}, nil
	}
	every, err := time.ParseDuration(text)
	if err != nil || every < minEvery {
		return Rotation{}, fmt.Errorf("%w: rotate %q must be job, never or a duration of at least %s, like 720h", ErrInput, text, minEvery)
	}
	return Rotation{Every: every}, nil
}

func (r Rotation) String() string {
	switch {
	case r.PerJob:
		return "job"
	case r.Every > 0:
		return short(r.Every)
	}
	return "never"
}

// MarshalText is ParseRotation's text.
func (r Rotation) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseRotation.
func (r *Rotation) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRotation(string(text))
	return err
}

// short leaves out the 0s of 720h0m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Definition says where a secret's values come from and how long they stay.
type Definition struct {
	// Generator makes new values; nil: somebody sets them.
	Generator *Generator `json:"generator,omitempty"`
	Rotate    Rotation   `json:"rotate"`
	// Grace is how long an old version is kept, in nanoseconds of JSON. A
	// version of one job is destroyed with the job instead, and Grace bounds
	// it only where nobody said how long the job may run.
	Grace time.Duration `json:"grace_ns,omitempty"`
}

// Limits of durations.
const (
	maxGrace     = 10 * 365 * 24 * time.Hour
	defaultGrace = time.Hour // for a new secret
)

// Check says what is wrong, wrapping ErrInput.
func (d Definition) Check() error {
	if d.Grace < 0 || d.Grace > maxGrace {
		return fmt.Errorf("%w: grace %s must be from 0 to ten years", ErrInput, d.Grace)
	}
	if d.Generator == nil {
		if d.Rotate != (Rotation{}) {
			return fmt.Errorf("%w: rotate %s needs a generator that makes the new values", ErrInput, d.Rotate)
		}
		return nil
	}
	if err := d.Generator.check(); err != nil {
		return err
	}
	switch g := d.Generator; {
	case g.Kind == Command && g.PassOld && d.Rotate.PerJob:
		return fmt.Errorf("%w: a command that needs the old value cannot rotate per job, since a job's value is destroyed with the job: rotate after a duration", ErrInput)
	case g.Kind == JWT && g.Lifetime == 0 && d.Rotate == Rotation{}:
		return fmt.Errorf("%w: a token that never rotates needs a lifetime", ErrInput)
	case g.Kind == JWT && g.Lifetime > 0 && g.Lifetime < d.Rotate.Every:
		return fmt.Errorf("%w: a lifetime of %s ends before the token rotates, after %s", ErrInput, short(g.Lifetime), d.Rotate)
	}
	return nil
}
