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
