package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/transparency-dev/formats/log"
	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// name is the witness's.
const name = "witness.test/cleanroom"

// signer is a key from a file of *dir, made when it is not there, and its
// public half.
func signer(file string, generate func(name string) (skey, vkey string, err error)) (note.Signer, string, error) {
	file = filepath.Join(*dir, file)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		skey, vkey, err := generate(name)
		if err != nil {
			return nil, "", err
		}
		text = fmt.Appendf(nil, "%s\n%s\n", skey, vkey)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return nil, "", err
		}
	} else if err != nil {
		return nil, "", err
	}
	skey, vkey, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	s, err := formats.NewSignerForCosignatureV1(skey)
	return s, vkey, err
}

// folder keeps the newest checkpoint of each log in a file. It is
// witness.LogStatePersistence.
type folder struct {
	dir string
	mu  sync.Mutex
}

func (*folder) Init(context.Context) error { return nil }

func (f *folder) path(origin string) string { return filepath.Join(f.dir, log.ID(origin)) }

func (f *folder) Latest(_ context.Context, origin string) ([]byte, error) {
	seen, err := os.ReadFile(f.path(origin))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return seen, err
}

func (f *folder) Update(ctx context.Context, origin string, update func([]byte) ([]byte, error)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen, err := f.Latest(ctx, origin)
	if err != nil {
		return err
	}
	next, err := update(seen)
	if err != nil {
		return err
	}
	return os.WriteFile(f.path(origin), next, 0o600)
}
