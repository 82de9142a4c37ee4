package secret

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"
	"time"

	"cleanroom/config"
)

// MinValue is the shortest value (bytes) that is given to a job without
// allow_short: hiding a shorter one would make nonsense of the job's log.
const MinValue = 8

// maxEnv bounds a value in an environment: the kernel's own bound of one
// string (MAX_ARG_STRLEN) less a name. maxFile bounds one in a file. Bytes.
const (
	maxEnv  = 120 << 10
	maxFile = 512 << 10
)

// ahead is how far a provider's clock may be before ours.
const ahead = 5 * time.Minute

// Delivery is one variable or file that a stage gets.
type Delivery struct {
	Secret   string   `json:"secret"`
	Variable string   `json:"variable"`
	File     string   `json:"file,omitempty"` // its name; empty: the variable holds the value
	Value    string   `json:"value"`
	Stages   []string `json:"stages"` // globs; empty: the default
}

// Deliver turns what a provider gave into what the job gets. Errors wrap
// ErrRefused and hold no value.
func Deliver(s config.Secret, given Issued, stages []string) ([]Delivery, error) {
	var all []Delivery
	for _, d := range s.Deliver {
		value, err := render(d.Value, given.Fields)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		switch limit := map[bool]int{true: maxFile, false: maxEnv}[d.As == "file"]; {
		case len(value) > limit:
			err = fmt.Errorf("the value for %s has %d bytes, more than %d", d.Variable, len(value), limit)
		case d.As == "env" && strings.ContainsRune(value, 0):
			err = fmt.Errorf("the value for %s holds a zero byte, which no variable can: deliver it as a file", d.Variable)
		case len(value) < MinValue && !s.AllowShort:
			err = fmt.Errorf("the value for %s has less than %d bytes, too few to be hidden in a log: make it longer, or set allow_short", d.Variable, MinValue)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		all = append(all, Delivery{Secret: s.Name, Variable: d.Variable, File: d.File, Value: value, Stages: stages})
	}
	return all, nil
}

// Used says whether a field of a provider's answer is part of what the job
// gets.
func Used(s config.Secret, field string, given Issued) bool {
	changed := maps.Clone(given.Fields)
	changed[field] += "changed"
	return slices.ContainsFunc(s.Deliver, func(d config.Deliver) bool {
		was, err1 := render(d.Value, given.Fields)
		is, err2 := render(d.Value, changed)
		return err1 != nil || err2 != nil || was != is
	})
}

func render(text string, fields map[string]string) (string, error) {
	known := strings.Join(slices.Sorted(maps.Keys(fields)), ", ")
	if text == "" {
		if len(fields) != 1 {
			return "", fmt.Errorf("it has the fields %s: say with `value` which is meant, like value = \"{{.%s}}\"", known, strings.SplitN(known, ",", 2)[0])
		}
		for _, only := range fields {
			return only, nil
		}
	}
	t, err := template.New("value").Option("missingkey=error").Parse(text)
	if err != nil {
		return "", fmt.Errorf("its template does not parse") // config has said why
	}
	var b strings.Builder
	if err := t.Execute(&b, fields); err != nil {
		return "", fmt.Errorf("its template does not fit: the fields are %s", known) // the error might quote a value
	}
	return b.String(), nil
}

// TooOld refuses a value that was not rotated for longer than the secret's
// max_age; the error wraps ErrRefused.
func TooOld(s config.Secret, given Issued, now time.Time) error {
	switch {
	case s.MaxAge == 0:
		return nil
	case given.Rotated.After(now.Add(ahead)):
		return fmt.Errorf("%w: its provider says that it was rotated at %s, which is yet to come: one of the clocks is wrong", ErrRefused, given.Rotated.UTC().Format(time.RFC3339))
	case given.Rotated.IsZero():
		return fmt.Errorf("%w: its age is not known, and max_age is %s: its provider tells no date", ErrRefused, s.MaxAge)
	case now.Sub(given.Rotated) > s.MaxAge:
		return fmt.Errorf("%w: it was not rotated for %s, at most %s is allowed (max_age): rotate it at its source",
			ErrRefused, days(now.Sub(given.Rotated)), days(s.MaxAge))
	}
	return nil
}

// days is a duration in days where it has many hours.
func days(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}
