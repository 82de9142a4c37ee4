package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"cleanroom/executor/audit/record/schema"
)

func init() { Check = schema.Check }

var update = flag.Bool("update", false, "write the golden files anew")

func TestGolden(t *testing.T) {
	for name, r := range samples() {
		text, err := r.Encode()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		golden := filepath.Join("testdata", name+".json")
		if *update {
			if err := os.WriteFile(golden, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text, want) {
			t.Errorf("not as in %s:\n%s", golden, text)
		}
		back, err := Decode(want)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !reflect.DeepEqual(back, r) {
			t.Errorf("%s: read as\n%+v, was\n%+v", name, back, r)
		}
	}
}

// A change of any byte is no record, or says something else: never the same.
func TestDecodeRefuses(t *testing.T) {
	good, err := samples()["job"].Encode()
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, new string) string {
		if !strings.Contains(string(good), old) {
			t.Fatalf("the sample has no %s", old)
		}
		return strings.Replace(string(good), old, new, 1)
	}
	for name, text := range map[string]string{
		"empty":                 "",
		"null":                  "null",
		"white space":           " " + string(good),
		"a line end":            string(good) + "\n",
		"two of them":           string(good) + string(good),
		"unknown field":         edit(`"host":{`, `"host":{"a":1,`),
		"a password":            edit(`"name":"deploy","outcome"`, `"name":"deploy","password":"x","outcome"`),
		"field twice":           edit(`"job":4711,`, `"job":4711,"job":4711,`),
		"letter case":           edit(`"outcome":"failed","policy"`, `"Outcome":"failed","policy"`),
		"order":                 edit(`"cleanroom":"0.5.0","name":"ci-1"`, `"name":"ci-1","cleanroom":"0.5.0"`),
		"an escape":             edit(`ci-1`, `\u0063i-1`),
		"a number's form":       edit(`"job":4711`, `"job":4711.0`),
		"a time's form":         edit(`21:10:04.123456Z"`, `21:10:04.1234560Z"`),
		"a time's zone":         edit(`T21:10:04.123456Z"`, `T21:10:04.123456+00:00"`),
		"null for none":         edit(`"host":{`, `"cut":null,"host":{`),
		"empty for none":        edit(`"host":{`, `"cut":[],"host":{`),
		"no kind":               edit(`"kind":"job",`, ``),
		"two kinds":             edit(`"kind":"job",`, `"key":{"after":"x","signer":"file"},"kind":"job",`),
		"another kind":          edit(`"kind":"job",`, `"kind":"reap",`),
		"an outcome of no list": edit(`"outcome":"failed","policy"`, `"outcome":"good","policy"`),
		"a hash too short":      edit(`"policy":"1f`, `"policy":"1`),
	} {
		if r, err := Decode([]byte(text)); !errors.Is(err, ErrRecord) && !errors.Is(err, ErrVersion) {
			t.Errorf("%s: %v, %v", name, r, err)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: several lines: %v", name, err)
		}
	}
	if _, err := Decode([]byte(edit(`"version":2`, `"version":3`))); !errors.Is(err, ErrVersion) {
		t.Errorf("a version to come: %v", err)
	}
	if _, err := Decode([]byte(edit(`"version":2`, `"version":1`))); err != nil {
		t.Errorf("an earlier version: %v", err)
	}
}

// The largest record that anybody can make fits, says what was cut, and is
// cut in the same way again.
func TestFit(t *testing.T) {
	make := func() *Record {
		r := samples()["job"]
		j := r.Job
		grow := func(n int, add func(i int)) {
			for i := range n {
				add(i)
			}
		}
		long := strings.Repeat("\x01", 5000) // six bytes each in JSON
		grow(5000, func(i int) { j.End.Removed = append(j.End.Removed, Item{"volume", fmt.Sprint(i, long), long}) })
		grow(5000, func(int) { j.Decisions = append(j.Decisions, Decision{Kind: "secret", Name: long, Reason: long}) })
		grow(5000, func(int) { j.Stages = append(j.Stages, j.Stages[1]) })
		grow(500, func(int) {
			j.Secrets = append(j.Secrets, Secret{Name: long, Provider: long, Outcome: "standing", Leases: []Lease{{ID: long, Outcome: "expires"}}})
		})
		grow(50, func(int) { j.Facts = append(j.Facts, Fact{"ref", long, long}) })
		return r
	}
	first, second := make(), make()
	text, err := first.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := second.Encode()
	if err != nil || !bytes.Equal(text, again) {
		t.Errorf("cut in two ways, %v", err)
	}
	if len(text) > MaxSize || len(text) < MaxSize/2 {
		t.Errorf("%d bytes", len(text))
	}
	back, err := Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	dropped := map[string]int{}
	for _, c := range back.Cut {
		dropped[c.List] = c.Dropped
	}
	if got := len(back.Job.End.Removed) + dropped["job.end.removed"]; got != 5001 {
		t.Errorf("%d things removed or said to be cut, want 5001: %v", got, back.Cut)
	}
	if got := len(back.Job.Secrets) + dropped["job.secrets"]; got != 502 {
		t.Errorf("%d secrets, want 502: %v", got, back.Cut)
	}
	if dropped["job.stages.output.marks"] == 0 || back.Job.Room != "cr-runner-4711-0011223344" {
		t.Errorf("cut: %v", back.Cut)
	}
}

func TestMakeID(t *testing.T) {
	seen := map[string]bool{}
	for _, id := range []string{MakeID(OfJob), MakeID(OfReap), MakeID(OfJob, ""), MakeID(OfJob, "ab"), MakeID(OfJob, "a", "b"), MakeID(OfJob, "b", "a")} {
		if len(id) != 32 || seen[id] {
			t.Errorf("id %s", id)
		}
		seen[id] = true
	}
}

// The schema says of every field what the types and their tags say, and has a
// description of each.
func TestSchemaIsOfTheTypes(t *testing.T) {
	var known struct {
		object
		Defs map[string]object `json:"$defs"`
	}
	if err := json.Unmarshal(schema.Schema, &known); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var compare func(name string, o object, typ reflect.Type)
	compare = func(name string, o object, typ reflect.Type) {
		if o.Additional == nil || *o.Additional || o.Type != "object" || o.Description == "" {
			t.Errorf("%s: takes other properties, or is not described", name)
		}
		required := map[string]bool{}
		for _, r := range o.Required {
			required[r] = true
		}
		for i := range typ.NumField() {
			f := typ.Field(i)
			prop := jsonName(f)
			p, ok := o.Properties[prop]
			delete(o.Properties, prop)
			where := name + "." + prop
			if !ok || p.Description == "" {
				t.Errorf("%s: not in the schema, or not described", where)
				continue
			}
			if optional := strings.Contains(f.Tag.Get("json"), ",omit"); optional == required[prop] {
				t.Errorf("%s: required %v, left out when empty %v", where, required[prop], optional)
			}
			ft := f.Type
			if ft.Kind() == reflect.Pointer {
				ft = ft.Elem()
			}
			list, text := bounds(f.Tag.Get("max"), ft.Kind() == reflect.Slice)
			item := p
			if ft.Kind() == reflect.Slice {
				if prop == "cut" {
					list = 100 // there are fewer lists than that
				}
				if p.MaxItems != list || list == 0 {
					t.Errorf("%s: %d entries in the schema, %d in the type", where, p.MaxItems, list)
				}
				item, ft = *p.Items, ft.Elem()
			}
			switch {
			case ft == reflect.TypeFor[time.Time]():
				if item.Format != "date-time" {
					t.Errorf("%s: format %q", where, item.Format)
				}
			case ft.Kind() == reflect.Struct:
				def := strings.TrimPrefix(item.Ref, "#/$defs/")
				if !seen[def] {
					seen[def] = true
					compare(def, known.Defs[def], ft)
				}
			case ft.Kind() == reflect.String && item.Enum == nil, ft.Kind() == reflect.Interface:
				if item.MaxLength != text || text == 0 {
					t.Errorf("%s: %d bytes in the schema, %d in the type", where, item.MaxLength, text)
				}
			case ft.Kind() == reflect.Int, ft.Kind() == reflect.Int64:
				if prop != "version" && (item.Maximum == 0 || item.Maximum > most) {
					t.Errorf("%s: up to %g", where, item.Maximum)
				}
			}
		}
		for prop := range o.Properties {
			t.Errorf("%s.%s: not in the type", name, prop)
		}
	}
	compare("record", known.object, reflect.TypeFor[Record]())
	for def := range known.Defs {
		if !seen[def] {
			t.Errorf("%s: nothing uses it", def)
		}
	}
}

type object struct {
	Ref         string            `json:"$ref"`
	Type        any               `json:"type"`
	Description string            `json:"description"`
	Required    []string          `json:"required"`
	Additional  *bool             `json:"additionalProperties"`
	Properties  map[string]object `json:"properties"`
	Items       *object           `json:"items"`
	MaxItems    int               `json:"maxItems"`
	MaxLength   int               `json:"maxLength"`
	Maximum     float64           `json:"maximum"`
	Format      string            `json:"format"`
	Enum        []string          `json:"enum"`
}

func FuzzDecode(f *testing.F) {
	for _, r := range samples() {
		text, err := r.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Decode(text)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil || !bytes.Equal(again, text) {
			t.Errorf("%v\n%s\n%s", err, text, again)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	text, err := samples()["job"].Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := Decode(text); err != nil {
			b.Fatal(err)
		}
	}
}

// What no schema was held against never becomes a record.
func TestWithoutSchema(t *testing.T) {
	good, err := samples()["job"].Encode()
	if err != nil {
		t.Fatal(err)
	}
	Check = nil
	defer func() { Check = schema.Check }()
	if _, err := samples()["job"].Encode(); !errors.Is(err, ErrRecord) {
		t.Errorf("Encode: %v", err)
	}
	if _, err := Decode(good); !errors.Is(err, ErrRecord) {
		t.Errorf("Decode: %v", err)
	}
}
