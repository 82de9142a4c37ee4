// Package key has the keys that sign the audit log: Ed25519, in a file of
// ours or behind a command (a TPM, an HSM, a cloud's KMS), and how one key
// follows another.
//
// What it promises: a private key is read from a file of mode 0600 only, and
// is in no error; a signature was verified against the public key before
// anybody gets it, so that a command's mistake is no part of the log; public
// keys are written as https://c2sp.org/signed-note wants them (NAME+ID+KEY),
// and whoever holds the first one can follow the log through every change of
// the key (Chain).
package key

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"cleanroom/executor/audit/checkpoint"
	"cleanroom/executor/secret/hostkey/durable"
	"cleanroom/sandbox/fault"
)

// Errors.
var (
	// ErrExists is a key file that would be written over.
	ErrExists = errors.New("there is a key already")
	// ErrKey is a file or text that is no key, or not the log's.
	ErrKey = errors.New("this is not the audit log's key")
	// ErrSign is a key that gave no signature, or a false one.
	ErrSign = errors.New("the audit log's key did not sign")
)

// Next is what the name of the key that follows ends with, until it does.
const Next = ".next"

// maxFile bounds a key file, in bytes.
const maxFile = 4 << 10

// Signer signs notes. It is a note.Signer.
type Signer struct {
	note.Verifier // its public half
	vkey          string
	sign          func(msg []byte) ([]byte, error)
}

// VKey is the public key in note's format.
func (s *Signer) VKey() string { return s.vkey }

// Sign signs a text. ErrSign: it could not, or the signature is false.
func (s *Signer) Sign(msg []byte) ([]byte, error) {
	sig, err := s.sign(msg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSign, err)
	}
	if !s.Verify(msg, sig) {
		return nil, fmt.Errorf("%w: the signature is not one of %s: let it sign with Ed25519 (RFC 8032, not the prehashed variant), and see that the public key is the right one", ErrSign, s.vkey)
	}
	return sig, nil
}

// Source gives the signer that has the private half of a public key, once it
// is known which one the log wants. Else ErrKey.
type Source func(vkey string) (*Signer, error)

// File is the key in a file, as Current has it.
func File(path string) Source {
	return func(vkey string) (*Signer, error) { return Current(path, vkey) }
}

// Source is the key behind the command, for appends that end before ctx does.
func (c Command) Source(ctx context.Context) Source {
	return func(vkey string) (*Signer, error) {
		origin, _, _ := strings.Cut(vkey, "+")
		s, err := c.Signer(ctx, origin)
		if err == nil && s.vkey != vkey {
			return nil, fmt.Errorf("%w: the signing command's public key is %s, but the log's is %s", ErrKey, s.vkey, vkey)
		}
		return s, err
	}
}

// Create makes a new key for the log of this origin and writes it to a file
// that must not be there (ErrExists), mode 0600, in a folder that it makes if
// it must.
func Create(path, origin string) (*Signer, error) {
	if err := checkpoint.CheckOrigin(origin); err != nil {
		return nil, err
	}
	if err := durable.Folder(filepath.Dir(path)); err != nil {
		return nil, err
	}
	switch _, err := os.Lstat(path); {
	case err == nil:
		return nil, fmt.Errorf("%w in %s: a log that lost its key cannot be appended to: move the file away only if no log needs it", ErrExists, path)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	skey, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return nil, err
	}
	if err := durable.Write(path, []byte(skey+"\n")); err != nil {
		return nil, err
	}
	return parse(skey)
}

// Load reads a key file. fs.ErrNotExist: there is none; durable.ErrLoose:
// others may read it, or it is somebody else's; ErrKey: it has no key.
func Load(path string) (*Signer, error) {
	text, err := durable.Read(path, maxFile)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	s, err := parse(strings.TrimSuffix(string(text), "\n"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Lock is for who makes a key or has one follow another: it takes the key
// file from others that do. It makes the folder if it must.
func Lock(ctx context.Context, path string) (*durable.Held, error) {
	if err := durable.Folder(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return durable.Lock(ctx, path+".lock")
}

// Current reads the key file that has the private half of vkey. If it is the
// one beside it with Next at its end, a change of the key was cut short after
// the log knew of it: that file takes the other's place, unless somebody is
// about to put it there.
func Current(path, vkey string) (*Signer, error) {
	s, err := Load(path)
	if err == nil && s.vkey == vkey {
		return s, nil
	}
	next, nextErr := Load(path + Next)
	switch {
	case nextErr == nil && next.vkey == vkey:
		held, err := durable.Try(path + ".lock")
		if errors.Is(err, durable.ErrHeld) {
			return next, nil
		}
		if err != nil {
			return nil, err
		}
		return next, errors.Join(promote(path, vkey), held.Unlock())
	case err != nil:
		return nil, err
	}
	return nil, fmt.Errorf("%w: %s has the private half of %s, but the log's key is %s", ErrKey, path, s.vkey, vkey)
}

// Follow makes the key files those that the log's keys want, whose newest is
// vkey: the file beside takes the other's place if it is that one's, and what
// has the private half of a key from before is destroyed. The caller has Lock.
func Follow(path string, c *Chain) error {
	if err := promote(path, c.Current()); err != nil {
		return err
	}
	for _, one := range []string{path, path + Next} {
		s, err := Load(one)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrKey) || err == nil && (s.vkey == c.Current() || !slices.Contains(c.All(), s.vkey)) {
			continue
		}
		if err == nil {
			err = os.Remove(one)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// promote puts the key that follows, if it is vkey's, in the place of the old
// one, whose private half is gone then.
func promote(path, vkey string) error {
	text, err := durable.Read(path+Next, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer clear(text)
	if next, err := parse(strings.TrimSuffix(string(text), "\n")); err != nil || next.vkey != vkey {
		return err
	}
	if err := errors.Join(durable.Write(path, text), fault.At("key.placed")); err != nil {
		return err
	}
	return os.Remove(path + Next)
}

// parse reads a private key in note's format. Its errors do not quote it.
func parse(skey string) (*Signer, error) {
	s, err := note.NewSigner(skey)
	if err != nil {
		return nil, fmt.Errorf("%w: it must be one line that begins with PRIVATE+KEY+: %w", ErrKey, err)
	}
	// note has no way from the private key to the public one. The format has
	// five parts; the last, in base64, may hold a plus of its own.
	seed, err := base64.StdEncoding.DecodeString(strings.SplitN(skey, "+", 5)[4])
	if err != nil {
		return nil, fmt.Errorf("%w: it is no base64", ErrKey)
	}
	defer clear(seed)
	public := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	return newSigner(s.Name(), public, s.Sign)
}

func newSigner(origin string, public ed25519.PublicKey, sign func([]byte) ([]byte, error)) (*Signer, error) {
	vkey, err := note.NewEd25519VerifierKey(origin, public)
	if err != nil {
		return nil, err
	}
	v, err := Public(vkey)
	if err != nil {
		return nil, err
	}
	return &Signer{v, vkey, sign}, nil
}

// Public reads a public key in note's format.
func Public(vkey string) (note.Verifier, error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is no public key like ci.example.com/cleanroom+01234567+AbCd...: %w", ErrKey, vkey, err)
	}
	if err := checkpoint.CheckOrigin(v.Name()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return v, nil
}

// Ed25519 is the key itself of a public one in note's format.
func Ed25519(vkey string) (ed25519.PublicKey, error) {
	v, err := Public(vkey)
	if err != nil {
		return nil, err
	}
	return readPublic(v.Name(), vkey)
}

// Command is a program that holds the key.
type Command struct {
	Argv   []string // the program and its arguments
	Public string   // its public key: PEM (PKIX), base64 of its 32 bytes, or note's format
}

// Signer gives the command as a signer for the log of this origin. The
// program reads the text to sign on stdin and writes the signature's 64 bytes,
// as they are or in base64, to stdout. It must end before ctx does.
func (c Command) Signer(ctx context.Context, origin string) (*Signer, error) {
	if err := checkpoint.CheckOrigin(origin); err != nil {
		return nil, err
	}
	if len(c.Argv) == 0 || !filepath.IsAbs(c.Argv[0]) {
		return nil, fmt.Errorf("%w: the signing command must begin with the absolute path of a program", ErrKey)
	}
	public, err := readPublic(origin, strings.TrimSpace(c.Public))
	if err != nil {
		return nil, err
	}
	return newSigner(origin, public, func(msg []byte) ([]byte, error) { return run(ctx, c.Argv, msg) })
}

func readPublic(origin, text string) (ed25519.PublicKey, error) {
	if block, _ := pem.Decode([]byte(text)); block != nil {
		k, err := x509.ParsePKIXPublicKey(block.Bytes)
		public, ok := k.(ed25519.PublicKey)
		if err != nil || !ok {
			return nil, fmt.Errorf("%w: the PEM block holds no public key of Ed25519", ErrKey)
		}
		return public, nil
	}
	encoded := text
	if name, rest, ok := strings.Cut(text, "+"); ok && name == origin {
		if _, err := Public(text); err != nil {
			return nil, err
		}
		_, encoded, _ = strings.Cut(rest, "+")
	}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err == nil && len(raw) == 1+ed25519.PublicKeySize && encoded != text {
		raw = raw[1:] // after the byte that says Ed25519
	}
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%w: the public key of the signing command must be PEM (PKIX), base64 of 32 bytes, or NAME+ID+KEY with the log's origin as name", ErrKey)
	}
	return raw, nil
}
