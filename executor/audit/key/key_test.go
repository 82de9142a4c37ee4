package key_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"cleanroom/executor/audit/checkpoint"
	"cleanroom/executor/audit/key"
	"cleanroom/executor/secret/hostkey/durable"
)

const origin = "ci.example.com/cleanroom"

func create(t testing.TB) (*key.Signer, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys", "audit.key")
	s, err := key.Create(path, origin)
	if err != nil {
		t.Fatal(err)
	}
	return s, path
}

// public takes the 32 bytes out of a key in note's format.
func public(t testing.TB, vkey string) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(strings.SplitN(vkey, "+", 3)[2])
	if err != nil {
		t.Fatal(err)
	}
	return raw[1:]
}

func TestFile(t *testing.T) {
	s, path := create(t)
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	again, err := key.Load(path)
	if err != nil || again.VKey() != s.VKey() {
		t.Fatal(err)
	}
	v, err := key.Public(s.VKey())
	if err != nil || v.Name() != origin {
		t.Fatal(err)
	}
	sig, err := again.Sign([]byte("text\n"))
	if err != nil || !v.Verify([]byte("text\n"), sig) {
		t.Error(err)
	}
	if _, err := key.Create(path, origin); !errors.Is(err, key.ErrExists) {
		t.Error(err)
	}
	if _, err := key.Create(path+"2", "not an origin"); err == nil {
		t.Error("an origin with spaces")
	}
	other, _ := create(t)
	if _, err := key.Current(path, other.VKey()); !errors.Is(err, key.ErrKey) || strings.Contains(err.Error(), "PRIVATE") {
		t.Error(err)
	}
	text, _ := os.ReadFile(path)
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want error
	}{
		"loose": {string(text), 0o640, durable.ErrLoose},
		"empty": {"", 0o600, key.ErrKey},
		"cut":   {string(text[:len(text)-9]), 0o600, key.ErrKey},
		"other": {strings.Replace(string(text), "ci.", "ca.", 1), 0o600, key.ErrKey},
	} {
		os.WriteFile(path, []byte(c.text), 0o600)
		os.Chmod(path, c.mode)
		if _, err := key.Load(path); !errors.Is(err, c.want) || strings.Contains(err.Error(), "PRIVATE+KEY+c") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := key.Load(path + ".none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// script writes a program.
func script(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sign")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// A key that openssl holds signs like one of ours.
func TestCommand(t *testing.T) {
	dir := t.TempDir()
	sign := script(t, `set -e; f=$(mktemp); trap 'rm -f $f' EXIT; cat >$f
case $2 in
new) openssl genpkey -algorithm ed25519 -out $1/key; openssl pkey -in $1/key -pubout -out $1/pub;;
raw) openssl pkeyutl -sign -rawin -inkey $1/key -in $f;;
*) openssl pkeyutl -sign -rawin -inkey $1/key -in $f | base64 -w0; echo;;
esac`)
	run := func(how string) (*key.Signer, error) {
		text, _ := os.ReadFile(dir + "/pub")
		return key.Command{Argv: []string{sign, dir, how}, Public: string(text)}.Signer(t.Context(), origin)
	}
	s, err := key.Command{Argv: []string{sign, dir, "new"}, Public: base64.StdEncoding.EncodeToString(make([]byte, 32))}.Signer(t.Context(), origin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sign(nil); !errors.Is(err, key.ErrSign) { // makes the key
		t.Fatal(err)
	}
	for _, how := range []string{"raw", "base64"} {
		s, err := run(how)
		if err != nil {
			t.Fatal(err)
		}
		cp, err := checkpoint.Sign(origin, tlog.Tree{N: 1}, s)
		if err != nil {
			t.Fatal(err)
		}
		v, _ := key.Public(s.VKey())
		if _, _, err := checkpoint.Open(cp.Note, note.VerifierList(v)); err != nil {
			t.Error(err)
		}
		for _, form := range []string{s.VKey(), base64.StdEncoding.EncodeToString(public(t, s.VKey()))} {
			again, err := key.Command{Argv: []string{sign, dir, how}, Public: form}.Signer(t.Context(), origin)
			if err != nil || again.VKey() != s.VKey() {
				t.Errorf("%s: %v", form, err)
			}
		}
		if _, err := (key.Command{Argv: []string{sign, dir, how}, Public: s.VKey()}).Source(t.Context())(s.VKey()); err != nil {
			t.Error(err)
		}
	}
}

func TestCommandFails(t *testing.T) {
	s, _ := create(t)
	other, _ := create(t)
	wrong, _ := other.Sign([]byte("text\n"))
	for name, c := range map[string]struct{ script, says string }{
		"fails":    {"echo 'no such slot' >&2; echo; exit 3", "exit status 3: no such slot"},
		"nothing":  {"", "printed 0 bytes"},
		"too much": {"yes | head -c 100000", "printed 4096 bytes"},
		"wrong":    {"echo " + base64.StdEncoding.EncodeToString(wrong), "the signature is not one of " + s.VKey()},
		"left":     {"sleep 60 &", "left a process behind"},
	} {
		signer, err := key.Command{Argv: []string{script(t, c.script)}, Public: s.VKey()}.Signer(t.Context(), origin)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := signer.Sign([]byte("text\n")); !errors.Is(err, key.ErrSign) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	signer, err := key.Command{Argv: []string{script(t, "sleep 600")}, Public: s.VKey()}.Signer(ctx, origin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Sign(nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	strange := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("of another kind")})
	for _, bad := range []key.Command{{}, {Argv: []string{"sign"}, Public: s.VKey()}, {Argv: []string{"/bin/sign"}}, {Argv: []string{"/bin/sign"}, Public: string(strange)}, {Argv: []string{"/bin/sign"}, Public: "elsewhere" + s.VKey()}} {
		if _, err := bad.Signer(t.Context(), origin); !errors.Is(err, key.ErrKey) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := (key.Command{Argv: []string{"/bin/sign"}, Public: s.VKey()}).Source(t.Context())(other.VKey()); !errors.Is(err, key.ErrKey) {
		t.Error(err)
	}
}

// A key that is to follow takes the old one's place when the log knows of it,
// unless somebody is about to put it there; the old ones go, and no other.
func TestFollow(t *testing.T) {
	first, path := create(t)
	second, err := key.Create(path+key.Next, origin)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := key.NewChain(first.VKey())
	if err != nil {
		t.Fatal(err)
	}
	names := func(want string) {
		t.Helper()
		found, err := os.ReadDir(filepath.Dir(path))
		var is []string
		for _, one := range found {
			is = append(is, one.Name())
		}
		if err != nil || fmt.Sprint(is) != want {
			t.Errorf("%v, %v; want %s", is, err, want)
		}
	}
	held, err := key.Lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := key.Follow(path, chain); err != nil { // the log does not know of it
		t.Error(err)
	}
	names("[audit.key audit.key.lock audit.key.next]")
	if s, err := key.Current(path, second.VKey()); err != nil || s.VKey() != second.VKey() {
		t.Error(err)
	}
	names("[audit.key audit.key.lock audit.key.next]")
	if err := held.Unlock(); err != nil {
		t.Fatal(err)
	}
	if s, err := key.Current(path, second.VKey()); err != nil || s.VKey() != second.VKey() {
		t.Error(err)
	}
	names("[audit.key audit.key.lock]")
	follow := func(from, to *key.Signer, size int64) {
		t.Helper()
		change, err := key.SignChange(tlog.Tree{N: size}, from, to)
		if err = errors.Join(err, chain.Append(change.Note)); err == nil {
			err = key.Follow(path, chain)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	follow(first, second, 1)
	if s, err := key.Load(path); err != nil || s.VKey() != second.VKey() {
		t.Error(err)
	}
	command, _ := create(t)
	follow(second, command, 2)
	names("[audit.key.lock]")
	if _, err := key.Create(path, origin); err != nil { // of another log, for all we know
		t.Fatal(err)
	}
	if err := key.Follow(path, chain); err != nil {
		t.Error(err)
	}
	names("[audit.key audit.key.lock]")
}

func TestChain(t *testing.T) {
	var signers []*key.Signer
	for range 4 {
		s, _ := create(t)
		signers = append(signers, s)
	}
	chain, err := key.NewChain(signers[0].VKey())
	if err != nil {
		t.Fatal(err)
	}
	change := func(size int64, from, to *key.Signer) string {
		c, err := key.SignChange(tlog.Tree{N: size, Hash: tlog.RecordHash(nil)}, from, to)
		if err != nil {
			t.Fatal(err)
		}
		return c.Note
	}
	first := change(10, signers[0], signers[1])
	for _, msg := range []string{first, change(20, signers[1], signers[2])} {
		if err := chain.Append(msg); err != nil {
			t.Fatal(err)
		}
	}
	for name, msg := range map[string]string{
		"not the last key's": change(30, signers[1], signers[3]),
		"not after":          change(20, signers[2], signers[3]),
		"an old key again":   change(30, signers[2], signers[0]),
		"of the first":       change(30, signers[0], signers[3]),
		"again":              first,
		"edited":             strings.Replace(change(30, signers[2], signers[3]), "size 30", "size 31", 1),
		"one signature":      strings.Join(strings.SplitAfter(change(30, signers[2], signers[3]), "\n")[:7], ""),
		"a checkpoint":       string(sign(t, 30, signers[2], signers[3])),
		"nothing":            "",
		"written otherwise":  strings.Replace(change(30, signers[2], signers[3]), "size 30", "size +30", 1),
	} {
		if err := chain.Append(msg); !errors.Is(err, key.ErrChain) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range []struct {
		size int64
		by   int
		want error
	}{{0, 0, nil}, {10, 0, nil}, {10, 1, nil}, {20, 1, nil}, {20, 2, nil}, {1000, 2, nil},
		{11, 0, key.ErrRetired}, {9, 1, key.ErrRetired}, {21, 1, key.ErrRetired}, {19, 2, key.ErrRetired}, {5, 3, checkpoint.ErrNotOurs}} {
		if cp, err := chain.Open(sign(t, c.size, signers[c.by])); !errors.Is(err, c.want) || cp.Size != c.size {
			t.Errorf("%d records by key %d: %v", c.size, c.by, err)
		}
	}
	text, err := json.Marshal(chain)
	if err != nil {
		t.Fatal(err)
	}
	var again key.Chain
	if err := json.Unmarshal(text, &again); err != nil || again.Current() != signers[2].VKey() || again.Origin() != origin {
		t.Error(err)
	}
	if _, err := key.SignChange(tlog.Tree{N: 1}, signers[0], signers[0]); !errors.Is(err, key.ErrChain) {
		t.Error(err)
	}
}

func sign(t testing.TB, size int64, by ...note.Signer) []byte {
	t.Helper()
	cp, err := checkpoint.Sign(origin, tlog.Tree{N: size}, by...)
	if err != nil {
		t.Fatal(err)
	}
	return cp.Note
}

// seeded makes a key from a seed: what one process of the fuzz target signed
// is to be good in the next.
func seeded(f *testing.F, seed byte) *key.Signer {
	f.Helper()
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	vkey, err := note.NewEd25519VerifierKey(origin, private.Public().(ed25519.PublicKey))
	if err != nil {
		f.Fatal(err)
	}
	id := strings.SplitN(vkey, "+", 3)[1]
	path := filepath.Join(f.TempDir(), "key")
	text := fmt.Sprintf("PRIVATE+KEY+%s+%s+%s\n", origin, id, base64.StdEncoding.EncodeToString(append([]byte{1}, private.Seed()...)))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
	s, err := key.Load(path)
	if err != nil {
		f.Fatal(err)
	}
	return s
}

func FuzzChain(f *testing.F) {
	from, to := seeded(f, 1), seeded(f, 2)
	c, err := key.SignChange(tlog.Tree{N: 3}, from, to)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c.Note)
	f.Add(fmt.Sprintf("x\nold %s\nnew %s\nsize 3\nroot\n\n", from.VKey(), to.VKey()))
	f.Fuzz(func(t *testing.T, msg string) {
		chain, _ := key.NewChain(from.VKey())
		if err := chain.Append(msg); err == nil && chain.Current() != to.VKey() {
			t.Fatalf("%q made another key follow", msg)
		}
	})
}
