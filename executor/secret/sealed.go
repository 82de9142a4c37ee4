package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"cleanroom/config"
	"cleanroom/executor/secret/hostkey/durable"
	"cleanroom/sandbox/fault"
)

// ErrNoSeal is a room without its sealed secrets: a stage must not run as if
// it had been granted none.
var ErrNoSeal = errors.New("its sealed secrets are gone: was the state folder emptied while the job ran?")

// maxSealed bounds a sealed file, in bytes.
const maxSealed = 32 << 20

// Sealed is what waits between prepare and the stages of one job. One process
// has it at a time; within that, what changes it goes through Change.
type Sealed struct {
	Deliveries []Delivery `json:"deliveries"`
	Hidden     []Hidden   `json:"hidden,omitempty"` // what else a log must not show
	Renewals   []Renewal  `json:"renewals,omitempty"`
	Waivers    []Waiver   `json:"waivers,omitempty"`
	Until      time.Time  `json:"until"` // nothing is renewed beyond
	// Caches are globs over the keys of caches that are kept of this job, and
	// given to it; none: no cache is.
	Caches  []string  `json:"caches,omitempty"`
	Brought []Brought `json:"brought,omitempty"`

	mu sync.Mutex // of Change
}

// Waiver is where a rule lets files be stored although a secret is in them.
type Waiver struct {
	Rule  string   `json:"rule"`
	Paths []string `json:"paths"` // globs
}

// Brought is a cache that was brought into the room.
type Brought struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"` // of its content, hex
	Stamp  string `json:"stamp"`  // of the file there
}

// Hidden is a value that the job may come to know, and whose it is.
type Hidden struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Added bool   `json:"added,omitempty"` // by the job, while it ran
}

// Renewal is a lease that a stage must keep alive.
type Renewal struct {
	Secret   string          `json:"secret"`
	Provider config.Provider `json:"provider"`
	Lease    Lease           `json:"lease"`
}

func sealedPath(stateDir, room string) string {
	return filepath.Join(stateDir, "sealed", filepath.Base(room))
}

// aead is AES-256-GCM under a key of its own, derived (RFC 5869) from the
// room's: init gets other keys from that, and never this one.
func aead(key [32]byte) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, key[:], nil, "cleanroom sealed secrets", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Change changes s and seals it anew, one after another.
func (s *Sealed) Change(stateDir, room string, key [32]byte, change func(*Sealed)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
	return s.Save(stateDir, room, key)
}

// eachValue changes every value: one may be any bytes, and JSON would quietly
// replace what is not UTF-8.
func (s *Sealed) eachValue(change func(string) string) {
	for i := range s.Deliveries {
		s.Deliveries[i].Value = change(s.Deliveries[i].Value)
	}
	for i := range s.Hidden {
		s.Hidden[i].Value = change(s.Hidden[i].Value)
	}
}

// Save seals s with the room's key into the state folder.
func (s *Sealed) Save(stateDir, room string, key [32]byte) error {
	written := &Sealed{Deliveries: slices.Clone(s.Deliveries), Hidden: slices.Clone(s.Hidden), Renewals: s.Renewals, Waivers: s.Waivers, Until: s.Until, Caches: s.Caches, Brought: s.Brought}
	written.eachValue(func(v string) string { return base64.StdEncoding.EncodeToString([]byte(v)) })
	plain, err := json.Marshal(written)
	if err != nil {
		return fmt.Errorf("seal secrets: %w", err)
	}
	defer clear(plain)
	box, err := aead(key)
	if err != nil {
		return fmt.Errorf("seal secrets: %w", err)
	}
	path := sealedPath(stateDir, room)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("seal secrets: %w", err)
	}
	var suffix [8]byte
	rand.Read(suffix[:])
	tmp := fmt.Sprintf("%s.%x", path, suffix)
	err = os.WriteFile(tmp, box.Seal(nil, nil, plain, []byte(room)), 0o600)
	if err == nil {
		err = fault.At("seal.written")
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil { // half of it would fill a full folder further
		return fmt.Errorf("seal secrets: %w", errors.Join(err, os.Remove(tmp)))
	}
	return nil
}

// Unseal reads what Save wrote; each prepare does, with no secrets too.
func Unseal(stateDir, room string, key [32]byte) (*Sealed, error) {
	text, err := durable.Read(sealedPath(stateDir, room), maxSealed)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoSeal
	}
	if err != nil {
		return nil, fmt.Errorf("unseal secrets: %w", err)
	}
	box, err := aead(key)
	if err != nil {
		return nil, fmt.Errorf("unseal secrets: %w", err)
	}
	plain, err := box.Open(nil, nil, text, []byte(room))
	if err != nil {
		return nil, fmt.Errorf("unseal secrets: the file of room %s was changed, or sealed with another key", room)
	}
	defer clear(plain)
	var s Sealed
	if err := json.Unmarshal(plain, &s); err != nil {
		return nil, errors.New("unseal secrets: no JSON in the seal")
	}
	s.eachValue(func(v string) string {
		b, wrong := base64.StdEncoding.DecodeString(v)
		err = errors.Join(err, wrong)
		return string(b)
	})
	if err != nil {
		return nil, errors.New("unseal secrets: a value is not as we wrote it")
	}
	return &s, nil
}

// Discard removes what Save wrote for a room, whole or half, and says whether
// there was something.
func Discard(stateDir, room string) (removed bool, err error) {
	path := sealedPath(stateDir, room)
	found, err := os.ReadDir(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	for _, one := range found {
		if name, _, _ := strings.Cut(one.Name(), "."); name != filepath.Base(path) { // the rest is what a killed Save left
			continue
		}
		if wrong := os.RemoveAll(filepath.Join(filepath.Dir(path), one.Name())); wrong != nil {
			err = errors.Join(err, wrong)
			continue
		}
		removed = true
	}
	return removed, err
}
