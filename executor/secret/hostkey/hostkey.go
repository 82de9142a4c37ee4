// Package hostkey is the host's own key, an age X25519 identity
// (https://age-encryption.org/v1) in a file that only its owner can read. What must outlive a
// reboot and stay secret is sealed to it: the store, and what revoking a
// lease needs.
//
// What it promises: a key is made once, whole or not at all, also by two
// processes at once; a key that others can read is refused; what was sealed
// for one place does not open in another's; no error holds any of the
// plaintext or the key. The key is no signature: who may write in the folder
// could seal things of their own, and could replace the key as well.
package hostkey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"

	"cleanroom/executor/secret/hostkey/durable"
)

// Errors.
var (
	// ErrLoose is a key that somebody else may read or exchange.
	ErrLoose = durable.ErrLoose
	// ErrNoKey is a key file without a key in it.
	ErrNoKey = errors.New("no host key")
	// ErrOtherKey is something sealed to another key than this one.
	ErrOtherKey = errors.New("sealed to another host's key")
	// ErrOtherContext is something sealed for another place.
	ErrOtherContext = errors.New("sealed for something else")
	// ErrDamaged is no sealed thing, or one that was cut or changed.
	ErrDamaged = errors.New("not sealed by cleanroom, or damaged")
)

const (
	// fileName of the key in its folder.
	fileName = "host.key"
	// maxKeyFile bounds the key file, in bytes; a key has 75.
	maxKeyFile = 64 << 10
	// header is the first line of every plaintext; the context follows it.
	header = "cleanroom-sealed/1 "
	// lockTimeout bounds the wait for another process that makes the key.
	lockTimeout = 30 * time.Second
)

// Key opens what was sealed on this host.
type Key struct{ identity *age.X25519Identity }

// Path of the key of a data folder.
func Path(dir string) string { return filepath.Join(dir, fileName) }

// Open reads the key in dir, and makes both if they are missing.
func Open(dir string) (*Key, error) {
	key, err := read(Path(dir))
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := durable.Folder(dir); err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), lockTimeout)
	defer cancel()
	lock, err := durable.Lock(ctx, Path(dir)+".lock")
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	defer lock.Remove()
	// Another process may have made it while we waited.
	if key, err := read(Path(dir)); !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	return create(Path(dir))
}

func read(path string) (*Key, error) {
	text, err := durable.Read(path, maxKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	identity := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if identity != "" {
			return nil, fmt.Errorf("%w: %s has more than one line that is no comment: restore it from a backup", ErrNoKey, path)
		}
		identity = line
	}
	// The parser's own words could quote the file.
	id, err := age.ParseX25519Identity(identity)
	if err != nil {
		return nil, fmt.Errorf("%w: %s holds no AGE-SECRET-KEY-1: restore it from a backup, or move it away for a new one that opens nothing old", ErrNoKey, path)
	}
	return &Key{id}, nil
}

func create(path string) (*Key, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	text := fmt.Sprintf("# cleanroom's key of this host: without it nothing in this folder can be opened\n# public key: %s\n%s\n", id.Recipient(), id)
	if err := durable.Write(path, []byte(text)); err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	return &Key{id}, nil
}

// Recipient is the public half, for display (age1...).
func (k *Key) Recipient() string { return k.identity.Recipient().String() }

// Seal encrypts plaintext so that only Unseal with this key and the same
// context (one line that names the place it is for) opens it.
func (k *Key) Seal(plaintext []byte, context string) ([]byte, error) {
	if strings.ContainsAny(context, "\r\n") {
		return nil, fmt.Errorf("sealing: context %q must be one line", context)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, k.identity.Recipient())
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	if _, err := io.WriteString(w, header+context+"\n"); err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	if _, err := w.Write(plaintext); err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	return out.Bytes(), nil
}

// Unseal opens what Seal made with this context. The error wraps ErrOtherKey,
// ErrOtherContext or ErrDamaged.
func (k *Key) Unseal(sealed []byte, context string) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), k.identity)
	if none := (*age.NoIdentityMatchError)(nil); errors.As(err, &none) {
		return nil, ErrOtherKey
	}
	if err != nil {
		return nil, ErrDamaged
	}
	// age authenticates each chunk and the end: a cut is an error here.
	plaintext, err := io.ReadAll(r)
	if err != nil {
		return nil, ErrDamaged
	}
	if !bytes.HasPrefix(plaintext, []byte(header)) {
		return nil, ErrDamaged
	}
	rest, ok := bytes.CutPrefix(plaintext, []byte(header+context+"\n"))
	if !ok {
		return nil, ErrOtherContext
	}
	return rest, nil
}
