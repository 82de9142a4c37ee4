package proof_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"cleanroom/executor/audit/checkpoint"
	"cleanroom/executor/audit/key"
	"cleanroom/executor/audit/log"
	"cleanroom/executor/audit/proof"
	"cleanroom/executor/audit/tree"
)

const origin = "ci.example.com/cleanroom"

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func record(i int) []byte { return fmt.Appendf(nil, `{"job":%d,"ref":"a\u003cb\nü"}`, i) }

// newLog has 300 records, and its key changed at 200.
func newLog(t testing.TB) *log.Log {
	t.Helper()
	var signers []*key.Signer
	for range 2 {
		signers = append(signers, must(key.Create(filepath.Join(t.TempDir(), "key"), origin))(t))
	}
	by := func(i int) key.Source { return func(string) (*key.Signer, error) { return signers[i], nil } }
	l := must(log.Init(t.Context(), filepath.Join(t.TempDir(), "audit"), signers[0]))(t)
	var list [][]byte
	for i := range 300 {
		list = append(list, record(i))
	}
	must(l.Append(t.Context(), by(0), list[:199]...))(t)
	must(l.Rotate(t.Context(), by(0), signers[1], list[199]))(t)
	must(l.Append(t.Context(), by(1), list[200:]...))(t)
	return l
}

// What a record says does nothing to a terminal that the file is printed on.
func TestTerminal(t *testing.T) {
	signer := must(key.Create(filepath.Join(t.TempDir(), "key"), origin))(t)
	l := must(log.Init(t.Context(), filepath.Join(t.TempDir(), "audit"), signer))(t)
	const raw = "{\"ref\":\"\u009b31m\u202e\x7f\U000e0001\"}"
	must(l.Append(t.Context(), func(string) (*key.Signer, error) { return signer, nil }, []byte(raw)))(t)
	text := must(proof.Make(l, 0, nil))(t)
	if p := must(proof.Verify(text, signer.VKey()))(t); string(p.Record) != raw || strings.ContainsAny(string(text), "\u009b\u202e\x7f\U000e0001") {
		t.Errorf("%q: %q", p.Record, text)
	}
}

func TestProof(t *testing.T) {
	l := newLog(t)
	for _, i := range []int{0, 199, 255, 256, 299} {
		text := must(proof.Make(l, int64(i), nil))(t)
		for _, first := range []string{"", l.Keys().First} {
			p, err := proof.Verify(text, first)
			if err != nil || p.Index != int64(i) || !bytes.Equal(p.Record, record(i)) || p.Checkpoint.Size != 300 || p.Pinned != (first != "") {
				t.Errorf("%+v, %v", p, err)
			}
		}
		if _, err := proof.Verify(text, l.Keys().Current()); !errors.Is(err, proof.ErrKeys) {
			t.Error(err)
		}
	}
	if _, err := proof.Make(l, 300, nil); !errors.Is(err, tree.ErrRecord) {
		t.Error(err)
	}
	longest := bytes.Repeat([]byte("\x01"), tree.MaxRecord) // JSON writes each as six bytes
	signer := must(key.Create(filepath.Join(t.TempDir(), "key"), origin))(t)
	l = must(log.Init(t.Context(), filepath.Join(t.TempDir(), "audit"), signer))(t)
	must(l.Append(t.Context(), func(string) (*key.Signer, error) { return signer, nil }, longest, []byte("\xff")))(t)
	if p := must(proof.Verify(must(proof.Make(l, 0, nil))(t), ""))(t); !bytes.Equal(p.Record, longest) {
		t.Error("the longest record is another")
	}
	if _, err := proof.Make(l, 1, nil); !errors.Is(err, proof.ErrFormat) {
		t.Error(err)
	}
}

func TestForged(t *testing.T) {
	l := newLog(t)
	var f map[string]any
	if err := json.Unmarshal(must(proof.Make(l, 42, nil))(t), &f); err != nil {
		t.Fatal(err)
	}
	stranger := must(key.Create(filepath.Join(t.TempDir(), "key"), origin))(t)
	forged := must(checkpoint.Sign(origin, tlog.Tree{N: 1, Hash: tlog.RecordHash(record(7))}, stranger))(t)
	text := f["proof"].(string)
	hashes := strings.SplitAfter(text, "\n")
	for name, c := range map[string]struct {
		field string
		value any
		want  error
	}{
		"record":        {"record", string(record(43)), proof.ErrProof},
		"index":         {"proof", strings.Replace(text, "index 42", "index 43", 1), proof.ErrProof},
		"index beyond":  {"proof", strings.Replace(text, "index 42", "index 300", 1), proof.ErrProof},
		"index huge":    {"proof", strings.Replace(text, "index 42", "index 18446744073709551615", 1), proof.ErrFormat},
		"index written": {"proof", strings.Replace(text, "index 42", "index 042", 1), proof.ErrFormat},
		"fewer hashes":  {"proof", strings.Replace(text, hashes[2], "", 1), proof.ErrProof},
		"more hashes":   {"proof", strings.Replace(text, hashes[2], hashes[2]+hashes[2], 1), proof.ErrProof},
		"checkpoint":    {"proof", strings.Replace(text, "\n300\n", "\n301\n", 1), checkpoint.ErrSignature},
		"signer":        {"proof", "c2sp.org/tlog-proof@v1\nindex 0\n\n" + string(forged.Note), checkpoint.ErrNotOurs},
		"keys":          {"keys", map[string]any{"first": l.Keys().First}, checkpoint.ErrNotOurs},
		"no keys":       {"keys", nil, proof.ErrFormat},
		"claimed keys":  {"keys", map[string]any{"first": l.Keys().First, "changes": []string{"mine"}}, key.ErrChain},
		"format":        {"format", "cleanroom audit proof v2", proof.ErrFormat},
		"more":          {"note", "trust me", proof.ErrFormat},
		"no proof":      {"proof", "", proof.ErrFormat},
		"long":          {"record", strings.Repeat("x", proof.MaxSize), proof.ErrFormat},
	} {
		old, had := f[c.field]
		f[c.field] = c.value
		if _, err := proof.Verify(must(json.Marshal(f))(t), ""); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if f[c.field] = old; !had {
			delete(f, c.field)
		}
	}
	good := must(json.Marshal(f))(t)
	if _, err := proof.Verify(append([]byte(" "), append(good, '\n')...), ""); err != nil {
		t.Error(err)
	}
	if _, err := proof.Verify(good, l.Keys().First); err != nil {
		t.Error(err)
	}
}

// What else a file may hold, or hold twice, another reader may take for what
// was proved.
func TestStrict(t *testing.T) {
	good := string(must(proof.Make(newLog(t), 42, nil))(t))
	if _, err := proof.Verify([]byte(good), ""); err != nil {
		t.Fatal(err)
	}
	put := func(old, new string) string {
		if strings.Count(good, old) != 1 {
			t.Fatalf("%q is not once in the file", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for name, text := range map[string]string{
		"behind it":           good + "x",
		"two of them":         good + good,
		"a zero":              good + "\x00",
		"a field twice":       put(`"record":`, `"record": "mine", "record":`),
		"twice, later":        put("\n}\n", ",\n\"record\": \"mine\"}\n"),
		"twice, escaped":      put(`"record":`, `"recor\u0064": "mine", "record":`),
		"letter case":         put(`"record":`, `"RECORD":`),
		"both letter cases":   put(`"record":`, `"RECORD": "mine", "record":`),
		"unknown":             put(`"record":`, `"note": "trust me", "record":`),
		"unknown in keys":     put(`"first":`, `"note": "trust me", "first":`),
		"twice in keys":       put(`"first":`, `"first": "mine", "first":`),
		"letter case in keys": put(`"first":`, `"FIRST":`),
		"empty in keys":       put(`"first":`, `"last": null, "first":`),
		"no text":             put(`cleanroom audit proof v1`, "cleanroom audit proof v1\xff"),
	} {
		if _, err := proof.Verify([]byte(text), ""); !errors.Is(err, proof.ErrFormat) && !errors.Is(err, key.ErrChain) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// golden is a file that an earlier version of this program made, with a log's
// first key that nobody has any more.
const golden = "testdata/proof.json"

var update = flag.Bool("update", false, "make the golden file anew")

func TestGolden(t *testing.T) {
	if *update {
		if err := os.WriteFile(golden, must(proof.Make(newLog(t), 42, nil))(t), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := must(proof.Verify(must(os.ReadFile(golden))(t), ""))(t)
	if p.Index != 42 || !bytes.Equal(p.Record, record(42)) || p.Checkpoint.Size != 300 || len(p.Keys.Changes) != 1 {
		t.Errorf("%+v", p)
	}
}

// Nothing proves another record, whatever the file is.
func FuzzVerify(f *testing.F) {
	text := must(os.ReadFile(golden))(f)
	first := must(proof.Verify(text, ""))(f).Keys.First
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := proof.Verify(text, first)
		if err != nil {
			return
		}
		var all map[string]any // as another program reads it
		if json.Unmarshal(text, &all) != nil || len(all) != 4 || all["record"] != string(record(42)) {
			t.Fatalf("others read %q", text)
		}
		if p.Index != 42 || !bytes.Equal(p.Record, record(42)) {
			t.Fatalf("%q was proved to be record %d", p.Record, p.Index)
		}
	})
}
