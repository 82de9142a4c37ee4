package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func example(t testing.TB) []byte {
	t.Helper()
	e := &entry{Definition: Definition{Generator: random(), Rotate: Rotation{Every: time.Hour}, Grace: time.Hour}, Next: 1}
	e.add(value{fields: map[string]string{"value": "hunter2"}}, "", time.Time{}, epoch)
	e.add(value{fields: map[string]string{"value": "hunter3"}, goodUntil: epoch.Add(time.Hour)}, "", time.Time{}, epoch)
	j := &entry{Definition: Definition{Generator: &Generator{Kind: Ed25519}, Rotate: Rotation{PerJob: true}}, Next: 4}
	j.add(value{fields: map[string]string{"private_key": "a", "public_key": "b"}}, "cr-a", epoch.Add(time.Hour), epoch).destroy()
	j.add(value{fields: map[string]string{"private_key": "c", "public_key": "d"}}, "cr-b", epoch.Add(time.Hour), epoch)
	doc := &document{Format: format, Secrets: map[string]*entry{"key": e, "pair": j}}
	text, err := doc.marshal()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestParse(t *testing.T) {
	good := string(example(t))
	if _, err := parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	tests := map[string][2]string{
		"unknown key":    {`"secrets":`, `"more":1,"secrets":`},
		"another format": {`"format":1`, `"format":2`},
		"bad name":       {`"key":{`, `"../key":{`},
		"null":           {`"key":{`, `"nothing":null,"key":{`},
		"bad rotation":   {`"rotate":"1h"`, `"rotate":"1"`},
		"bad generator":  {`"kind":"random"`, `"kind":"hunter2"`},
		"weak generator": {`"length":43`, `"length":3`},
		"number twice":   {`"number":2`, `"number":1`},
		"number to come": {`"next":3`, `"next":2`},
		"no tag":         {`"tag":"`, `"tag":"x`},
		"two current":    {`"state":"old"`, `"state":"current"`},
		"unknown state":  {`"state":"old"`, `"state":"hunter2"`},
		"destroyed, yet": {`"state":"old"`, `"state":"destroyed"`},
		"without value":  {`"fields":{"value":"hunter2"}`, `"fields":{}`},
		"two documents":  {`}}]}}}`, `}}]}}}{}`},
		"no time":        {`"created":"2026`, `"created":"hunter2`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(good, test[0]) {
				t.Fatalf("the document has no %s", test[0])
			}
			_, err := parse([]byte(strings.Replace(good, test[0], test[1], 1)))
			if !errors.Is(err, ErrDamaged) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2\"") && name != "bad generator" {
				t.Errorf("error %v", err)
			}
		})
	}
	for _, text := range []string{"", "null", "[]", "{}", `{"format":1}`, `{"format":1,"secrets":null}`} {
		if _, err := parse([]byte(text)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzParse: what is taken can be written and read again, and what is written
// of it stays the same.
func FuzzParse(f *testing.F) {
	f.Add(example(f))
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, err := parse(text)
		if err != nil {
			if !errors.Is(err, ErrDamaged) || doc != nil {
				t.Errorf("error %v", err)
			}
			return
		}
		once, err := doc.marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(once)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		twice, err := again.marshal()
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s became %s, %v", once, twice, err)
		}
		doc.sweep(epoch)
		for name, e := range doc.Secrets {
			if err := e.check(); err != nil {
				t.Errorf("%s after a sweep: %v", name, err)
			}
		}
	})
}

// FuzzReadOutput: whatever a command prints is a value that can be kept, or
// an error that does not repeat it.
func FuzzReadOutput(f *testing.F) {
	f.Add([]byte(`{"username": "u", "password": "p"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		fields, err := readOutput(text)
		if err != nil {
			if len(text) > 60 && strings.Contains(err.Error(), string(text)) {
				t.Errorf("error %q", err)
			}
			return
		}
		kept, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseFields(kept); err != nil || !reflect.DeepEqual(fields, again) {
			t.Errorf("%q became %q, %v", fields, again, err)
		}
	})
}
