package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sys/unix"
)

// entry is what is kept of an issuer's keys, one file for each issuer.
type entry struct {
	Issuer  string          `json:"issuer"`
	JWKSURL string          `json:"jwks_url,omitempty"` // as configured: keys from elsewhere are others
	Fetched time.Time       `json:"fetched"`
	Asked   time.Time       `json:"asked"`            // when the network was last asked
	Failed  bool            `json:"failed,omitempty"` // and did not answer, or not yet
	Keys    json.RawMessage `json:"keys"`             // RFC 7517, as it was read

	keys []jose.JSONWebKey
}

func (e *entry) named(kid string) (found []jose.JSONWebKey) {
	for _, k := range e.keys {
		if k.KeyID == kid {
			found = append(found, k)
		}
	}
	return found
}

// cache keeps one issuer's entry: in a file that processes share, or in
// memory.
type cache struct {
	issuer *issuer
	path   string // empty: memory

	turn chan struct{} // in memory: who holds it may ask
	mu   sync.Mutex
	held *entry
}

func newCache(dir string, i *issuer) (*cache, error) {
	c := &cache{issuer: i, turn: make(chan struct{}, 1)}
	if dir == "" {
		return c, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder for its keys: %w", err)
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return nil, fmt.Errorf("folder for its keys: %w", &os.PathError{Op: "write", Path: dir, Err: err})
	}
	sum := sha256.Sum256([]byte(i.URL))
	c.path = filepath.Join(dir, hex.EncodeToString(sum[:16]))
	return c, nil
}

// load gives the entry, or nil. One that is not as we write it is as good as
// none: the next save replaces it.
func (c *cache) load(now time.Time) *entry {
	if c.path == "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.held == nil {
			return nil
		}
		e := *c.held
		return &e
	}
	data, ok := readOwn(c.path + ".json")
	if !ok {
		return nil
	}
	return c.issuer.parseEntry(data, now)
}

// readOwn reads a file that only we can have written: who can write keys
// there can sign tokens.
func readOwn(path string) ([]byte, bool) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 {
		return nil, false
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != os.Geteuid() {
		return nil, false
	}
	data, err := io.ReadAll(io.LimitReader(f, 2*maxAnswer+1))
	return data, err == nil && len(data) <= 2*maxAnswer
}

// parseEntry reads an entry of this issuer; nil: it is none, or of the future
// (a clock was set back: nobody knows its age).
func (i *issuer) parseEntry(data []byte, now time.Time) *entry {
	var e entry
	if json.Unmarshal(data, &e) != nil || e.Issuer != i.URL || e.JWKSURL != i.JWKSURL || e.Fetched.After(now) {
		return nil
	}
	var err error
	if e.keys, err = parseKeys(e.Keys, i.algorithms); err != nil {
		return nil
	}
	return &e
}

// save replaces the entry whole: a reader sees the old one or the new one.
// Whoever saves holds the lock.
func (c *cache) save(e *entry) error {
	if c.path == "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		kept := *e
		c.held = &kept
		return nil
	}
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	fresh := c.path + ".tmp" // one name: what a killed process left is replaced, too
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(fresh, c.path+".json")
}

// lock waits until nobody else, in any process, asks this issuer; at most as
// long as ctx.
func (c *cache) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("somebody else is reading them: %w", ctx.Err())
	}
	if c.path == "" {
		return func() { <-c.turn }, nil
	}
	f, err := os.OpenFile(c.path+".lock", os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		<-c.turn
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close(); <-c.turn }, nil // closing unlocks
		}
		if err == unix.EWOULDBLOCK || err == unix.EINTR {
			select {
			case <-time.After(20 * time.Millisecond):
				continue
			case <-ctx.Done():
				err = fmt.Errorf("another process is reading them: %w", ctx.Err())
			}
		}
		f.Close()
		<-c.turn
		return nil, err
	}
}
