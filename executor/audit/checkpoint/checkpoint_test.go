package checkpoint_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"cleanroom/executor/audit/checkpoint"
)

const origin = "ci.example.com/cleanroom"

// keys makes a key from a seed: what one process of a fuzz target signed is to
// be good in the next.
func keys(t testing.TB, seed byte) (note.Signer, note.Verifiers) {
	t.Helper()
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	vkey, err := note.NewEd25519VerifierKey(origin, private.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return seeded{v, private}, note.VerifierList(v)
}

type seeded struct {
	note.Verifier
	private ed25519.PrivateKey
}

func (s seeded) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.private, msg), nil }

func sign(t testing.TB, signer note.Signer, size int64) checkpoint.Checkpoint {
	t.Helper()
	cp, err := checkpoint.Sign(origin, tlog.Tree{N: size, Hash: tlog.RecordHash(nil)}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return cp
}

func TestOpen(t *testing.T) {
	signer, known := keys(t, 1)
	_, strangers := keys(t, 2)
	cp := sign(t, signer, 1234)
	got, n, err := checkpoint.Open(cp.Note, known)
	if err != nil || got.Size != 1234 || got.Origin != origin || got.Root != cp.Root || len(n.Sigs) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, _, err := checkpoint.Open(cp.Note, strangers); !errors.Is(err, checkpoint.ErrNotOurs) || got.Size != 1234 {
		t.Errorf("%+v, %v", got, err)
	}
	text := string(cp.Note)
	for name, bad := range map[string]string{
		"empty":     "",
		"size":      strings.Replace(text, "\n1234\n", "\n01234\n", 1),
		"negative":  strings.Replace(text, "\n1234\n", "\n-1\n", 1),
		"extension": strings.Replace(text, "\n\n", "\nmore\n\n", 1),
		"origin":    "\n" + text,
		"cut":       text[:len(text)-1],
		"long":      text + strings.Repeat("— a b\n", checkpoint.MaxSize/5),
		"control":   strings.Replace(text, "ci", "c\x1b", 1),
	} {
		if _, err := checkpoint.Parse([]byte(bad)); !errors.Is(err, checkpoint.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := checkpoint.Open([]byte(strings.Replace(text, "\n1234\n", "\n1235\n", 1)), known); !errors.Is(err, checkpoint.ErrSignature) {
		t.Error(err)
	}
	for _, bad := range []string{"", "a b", "a+b", "a\nb", "ä", strings.Repeat("a", 201)} {
		if checkpoint.CheckOrigin(bad) == nil {
			t.Errorf("origin %q", bad)
		}
	}
}

// logOf is how a block stands in the file that GitLab hands out.
func logOf(block string, decorate func(line string) string) string {
	var b strings.Builder
	b.WriteString(decorate("\x1b[0KRunning with gitlab-runner 19.0.0\x1b[0;m"))
	b.WriteString(decorate("section_start:1767323045:cleanroom_checkpoint[collapsed=true]\r\x1b[0K\x1b[36;1mAudit log\x1b[0m"))
	for line := range strings.Lines(block) {
		b.WriteString(decorate(strings.TrimSuffix(line, "\n")))
	}
	b.WriteString(decorate("section_end:1767323046:cleanroom_checkpoint\r\x1b[0KGetting source"))
	return b.String()
}

func TestScan(t *testing.T) {
	signer, known := keys(t, 1)
	cp := sign(t, signer, 77)
	block := cp.Block()
	if lines := strings.Count(block, "\n"); lines > 8 || strings.Contains(block, "\r") {
		t.Errorf("%d lines", lines)
	}
	plain := func(line string) string { return line + "\n" }
	for name, text := range map[string]string{
		"plain":      logOf(block, plain),
		"crlf":       logOf(block, func(line string) string { return line + "\r\n" }),
		"timestamps": logOf(block, func(line string) string { return "2026-01-02T03:04:05.000000Z 00O " + line + "\n" }),
		"stderr":     logOf(block, func(line string) string { return "2026-01-02T03:04:05.000000Z 0fE " + line + "\r\n" }),
		"colours":    logOf(block, func(line string) string { return "\x1b[0;m\x1b]8;;http://x\x07" + line + "\x1b[0K\x1b[0;m\n" }),
		"both":       logOf(block, func(line string) string { return "2026-01-02T03:04:05.000000Z 00O \x1b[32m" + line + "\x1b[0m\r\n" }),
		"split": strings.ReplaceAll(logOf(block, func(line string) string { return "2026-01-02T03:04:05.000000Z 00O " + line + "\n" }),
			"cleanroom\n", "clean\n2026-01-02T03:04:05.000001Z 00O+room\n"),
		"behind a mark of the section": strings.Replace(logOf(block, plain), "Audit log\x1b[0m\n", "", 1),
		"no newline":                   strings.TrimSuffix(block, "\n"),
		"cut off before":               block[:60] + "\n" + block,
		"begins often":                 strings.Repeat(block[:37], 5000) + block,
		"a long line before":           strings.Repeat("x", 1<<20) + "\n" + block,
		"a long line within one":       block[:37] + strings.Repeat("x", 1<<20) + "\n" + block,
		"no end":                       block + block[:37] + strings.Repeat("y\n", 10000),
		"zero bytes":                   "\x00\xff\xfe\n" + block,
	} {
		if name == "behind a mark of the section" { // the mark ends the line before
			text = strings.Replace(text, "\x1b[36;1m", "", 1)
		}
		found, more, err := checkpoint.Scan(iotest.OneByteReader(strings.NewReader(text)))
		if err != nil || more || len(found) != 1 || found[0].Err != nil {
			t.Errorf("%s: %+v, %v", name, found, err)
			continue
		}
		if got, _, err := checkpoint.Open(found[0].Checkpoint.Note, known); err != nil || !bytes.Equal(got.Note, cp.Note) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBy: a block is prepare's where the log begins as the runner writes it,
// and in no other.
func TestBy(t *testing.T) {
	signer, _ := keys(t, 1)
	block := sign(t, signer, 77).Block()
	const (
		runner   = "\x1b[0KRunning with gitlab-runner 19.4.0 (fc1f1862)\x1b[0;m\n\x1b[0K  on rig, to the left 21a54b115, system ID: s_1746f8786189\x1b[0;m\n\x1b[0K  feature flags: FF_TIMESTAMPS:false\x1b[0;m\n"
		heading  = "section_start:1795780323:prepare_executor\r\x1b[0K\x1b[0K\x1b[36;1mPreparing the \"custom\" executor\x1b[0;m\x1b[0;m\n"
		driver   = "\x1b[0KUsing Custom executor with driver cleanroom 309a99c...\x1b[0;m\n"
		room     = "Room cr-21a54b115-2953-ace87d43b7, profile hardened\n"
		audit    = "\x1b[0Ksection_start:1795780323:cleanroom_audit[collapsed=true]\r\x1b[0KAudit log: 77 records\n"
		over     = "\x1b[0Ksection_end:1795780323:cleanroom_audit\r\x1b[0K\nsection_end:1795780324:prepare_executor\r\x1b[0Ksection_start:1795780324:step_script\r\x1b[0K\n"
		variable = "\x1b[0;33mWARNING: FF_USE_FASTZIP: could not parse feature flag, expected bool, got x\n"
		retried  = "\x1b[31;1mERROR: Preparation failed: exit status 2\x1b[0;m\n\x1b[32;1mWill be retried in 3s ...\x1b[0;m\n"
	)
	prepared := runner + heading + driver + room + audit
	for name, c := range map[string]struct {
		text string
		want []checkpoint.By
	}{
		"prepare's":           {prepared + block, []checkpoint.By{checkpoint.Prepare}},
		"and the job's":       {prepared + block + over + prepared + block, []checkpoint.By{checkpoint.Prepare, checkpoint.Job}},
		"prepared again":      {runner + heading + driver + retried + driver + room + audit + block, []checkpoint.By{checkpoint.Prepare}},
		"no log":              {runner + heading + driver + room + "section_end:1795780324:prepare_executor\r\x1b[0K" + audit + block + prepared + block, []checkpoint.By{checkpoint.Job, checkpoint.Job}},
		"another executor":    {runner + strings.Replace(heading, "custom", "docker", 1) + driver + audit + block + prepared + block, []checkpoint.By{checkpoint.Job, checkpoint.Job}},
		"another driver":      {runner + heading + strings.Replace(driver, "cleanroom", "other", 1) + driver + audit + block, []checkpoint.By{checkpoint.Job}},
		"no driver":           {runner + heading + "Using Custom executor...\n" + driver + audit + block, []checkpoint.By{checkpoint.Job}},
		"a variable before":   {runner + variable + heading + driver + audit + block, []checkpoint.By{checkpoint.Unsure}},
		"all in a variable":   {runner + variable + prepared + block + runner + strings.Replace(heading, "custom", "docker", 1), []checkpoint.By{checkpoint.Unsure}},
		"a block in one":      {runner + variable + block + heading + driver + audit + block, []checkpoint.By{checkpoint.Unsure, checkpoint.Unsure}},
		"a secret's name":     {runner + "\x1b[0KResolving secret \"a\"...\x1b[0;m\n" + heading + driver + audit + block, []checkpoint.By{checkpoint.Unsure}},
		"without its section": {runner + heading + driver + room + block, []checkpoint.By{checkpoint.Unsure}},
		"in another section":  {runner + heading + driver + strings.Replace(audit, "cleanroom_audit", "other", 1) + audit + block, []checkpoint.By{checkpoint.Unsure}},
		"a long line":         {runner + strings.Repeat(" ", 1<<20) + "\n" + heading + driver + audit + block, []checkpoint.By{checkpoint.Unsure}},
		"nothing else":        {block, []checkpoint.By{checkpoint.Unsure}},
	} {
		stamped := ""
		for line := range strings.Lines(c.text) { // the runner ends a line of its own behind a mark
			line = strings.ReplaceAll(line, "prepare_executor\r\x1b[0K", "prepare_executor\r\x1b[0K\n2026-01-02T03:04:05.000000Z 00O+")
			stamped += "2026-01-02T03:04:05.000000Z 00O " + line
		}
		for _, text := range []string{c.text, stamped, strings.ReplaceAll(c.text, "\n", "\r\n")} {
			found, _, err := checkpoint.Scan(strings.NewReader(text))
			var got []checkpoint.By
			for _, f := range found {
				got = append(got, f.By)
			}
			if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%s: %v, want %v, %v\n%q", name, got, c.want, err, text)
			}
		}
	}
}

func TestScanHostile(t *testing.T) {
	signer, _ := keys(t, 1)
	block := sign(t, signer, 77).Block()
	junk := strings.Replace(block, "77", "x", 1)
	found, _, err := checkpoint.Scan(strings.NewReader(junk + block + "$ echo\n" + junk))
	if err != nil || len(found) != 3 || !errors.Is(found[0].Err, checkpoint.ErrFormat) || found[1].Err != nil || found[1].Line != 8 {
		t.Errorf("%+v, %v", found, err)
	}
	found, more, err := checkpoint.Scan(strings.NewReader(strings.Repeat(block, 3000)))
	if err != nil || len(found) != 1000 || !more {
		t.Errorf("%d, %v, %v", len(found), more, err)
	}
	broken := errors.New("broken")
	if _, _, err := checkpoint.Scan(io.MultiReader(strings.NewReader(block), iotest.ErrReader(broken))); err != broken {
		t.Error(err)
	}
}

func FuzzOpen(f *testing.F) {
	signer, known := keys(f, 1)
	f.Add(sign(f, signer, 5).Note)
	f.Fuzz(func(t *testing.T, msg []byte) {
		if cp, _, err := checkpoint.Open(msg, known); err == nil && !bytes.HasPrefix(msg, []byte(checkpoint.Text(cp.Origin, cp.Tree())+"\n")) {
			t.Fatalf("%+v is not what was signed", cp)
		}
		if cp, err := checkpoint.Parse(msg); err == nil && !bytes.HasPrefix(msg, []byte(checkpoint.Text(cp.Origin, cp.Tree())+"\n")) {
			t.Fatalf("%+v is not what was read", cp)
		}
	})
}

// Whatever a job's author has in the log behind a block of ours, it is found.
func FuzzScan(f *testing.F) {
	signer, _ := keys(f, 1)
	block := sign(f, signer, 5).Block()
	f.Add([]byte(block))
	f.Add([]byte("2026-01-02T03:04:05.000000Z 00O+" + block))
	f.Fuzz(func(t *testing.T, log []byte) {
		found, _, err := checkpoint.Scan(bytes.NewReader(append([]byte(block), log...)))
		if err != nil || len(found) == 0 || found[0].Err != nil || found[0].Line != 1 || fmt.Sprint(found[0].Checkpoint.Size) != "5" {
			t.Fatalf("%+v, %v", found, err)
		}
	})
}

// Whatever a job's author has the runner say before prepare, no block of his is
// prepare's.
func FuzzBy(f *testing.F) {
	signer, _ := keys(f, 1)
	block := sign(f, signer, 5).Block()
	f.Add("x\nPreparing the \"custom\" executor\nUsing Custom executor with driver cleanroom 1...\nsection_start:1:cleanroom_audit[collapsed=true]\rAudit log: 5 records\n" + block)
	f.Add("\x1b]\nUsing Custom executor with driver cleanroom 1...\n2026-01-02T03:04:05.000000Z 00O+section_start:1:cleanroom_audit[collapsed=true]\rAudit log: 5 records\n" + block)
	f.Fuzz(func(t *testing.T, text string) {
		for _, log := range []string{"\x1b[0;33mWARNING: FF_A: could not parse feature flag, expected bool, got " + text, "\x1b[0KResolving secret \"" + text, "Preparing the \"docker\" executor\n" + text} {
			found, _, err := checkpoint.Scan(strings.NewReader("Running with gitlab-runner 19.4.0 (fc1f1862)\n" + log))
			if err != nil {
				t.Fatal(err)
			}
			for _, one := range found {
				if one.By == checkpoint.Prepare {
					t.Errorf("%q", log)
				}
			}
		}
	})
}
