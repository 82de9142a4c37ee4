package canonical

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
)

type thing struct {
	Name  string  `json:"name"`
	List  []int   `json:"list,omitempty"`
	Inner *itself `json:"inner,omitempty"`
}

// itself decodes itself, so that the decoder's options do not reach its fields.
type itself struct{ First string }

func (i *itself) UnmarshalJSON(text []byte) error {
	var in struct{ First string }
	err := json.Unmarshal(text, &in)
	i.First = in.First
	return err
}

func (i *itself) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"first": i.First})
}

var good = []string{`{"name":"a"}`, `{"inner":{"first":"x"},"list":[1],"name":"ü\n"}`}

var written = []string{" {\"name\" : \"a\" }\n", `{"name":"\u0061"}`, `{"name":"a","inner":{"first":"x"}}`}

var bad = map[string]string{
	"empty": "", "two": `{"name":"a"}{}`, "trailing": `{"name":"a"}x`, "trailing zero": "{\"name\":\"a\"}\x00",
	"twice": `{"name":"a","name":"a"}`, "twice, another": `{"name":"b","name":"a"}`, "twice, escaped": `{"name":"b","n\u0061me":"a"}`,
	"letter case": `{"NAME":"a"}`, "letter case and name": `{"Name":"b","name":"a"}`, "kelvin": `{"name":"a","inner":{"fir\u017ft":"x"}}`,
	"unknown": `{"name":"a","x":1}`, "unknown within": `{"name":"a","inner":{"first":"x","y":1}}`, "twice within": `{"name":"a","inner":{"first":"y","first":"x"}}`,
	"letter case within": `{"name":"a","inner":{"FIRST":"x"}}`, "null for none": `{"name":"a","list":null}`, "empty for none": `{"name":"a","list":[]}`,
	"missing": `{}`, "null": `null`, "no text": "{\"name\":\"\xff\"}", "half a pair": `{"name":"\ud800"}`, "deep": `{"name":` + string(bytes.Repeat([]byte("["), 1<<20)),
}

func TestDecode(t *testing.T) {
	for _, text := range good {
		var v thing
		if err := DecodeExact([]byte(text), &v); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range append(written, good...) {
		var v thing
		if err := Decode([]byte(text), &v); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range written {
		var v thing
		if err := DecodeExact([]byte(text), &v); !errors.Is(err, ErrForm) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for name, text := range bad {
		for _, decode := range []func([]byte, any) error{Decode, DecodeExact} {
			v := thing{}
			if err := decode([]byte(text), &v); !errors.Is(err, ErrForm) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// What is taken is, field for field, what a reader sees that keeps all names
// as they are.
func FuzzDecode(f *testing.F) {
	for _, text := range append(written, good...) {
		f.Add([]byte(text))
	}
	for _, text := range bad {
		f.Add([]byte(text[:min(len(text), 1000)]))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var v thing
		if Decode(text, &v) != nil {
			return
		}
		var all map[string]any
		if err := json.Unmarshal(text, &all); err != nil {
			t.Fatal(err)
		}
		if all["name"] != v.Name || (all["list"] != nil) != (v.List != nil) || (all["inner"] != nil) != (v.Inner != nil) {
			t.Errorf("%q: %v, read as %+v", text, all, v)
		}
		for name := range all {
			if name != "name" && name != "list" && name != "inner" {
				t.Errorf("%q: has %q", text, name)
			}
		}
		again, err := Marshal(v)
		if err != nil || DecodeExact(again, &thing{}) != nil {
			t.Errorf("%q: written again as %q, %v", text, again, err)
		}
	})
}
