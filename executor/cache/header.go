package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
	"unicode/utf8"
)

// headerSize is where content begins: whole pages, so that it can be copied
// quickly, and room for the longest path.
const headerSize = 16 << 10

// maxPath bounds an entry's path, in bytes. JSON may take six for one.
const maxPath = 2048

const magic = "cleanroom cache 1\n"

// Header says what an entry is.
type Header struct {
	Place
	Key      string    `json:"key"`          // as people know it
	Project  string    `json:"project_path"` // when it was kept; empty: not known
	Job      int64     `json:"job"`          // that wrote it
	Size     int64     `json:"size"`         // of the content, bytes
	SHA256   string    `json:"sha256"`       // of the content, hex
	Created  time.Time `json:"created"`
	Modified time.Time `json:"modified"` // of the file in the room that it was
}

// Place is whose an entry is.
type Place struct {
	Instance  string `json:"instance"` // letters and digits that tell one GitLab from another
	ProjectID int64  `json:"project_id"`
	Protected bool   `json:"protected"`
	Path      string `json:"path"` // relative and clean
}

// Protection in a word.
func (p Place) Protection() string {
	if p.Protected {
		return "protected"
	}
	return "unprotected"
}

// dir is the folder of all entries of the project.
func (p Place) dir() string { return fmt.Sprintf("%s-p%d", p.Instance, p.ProjectID) }

// file is the entry's, relative to the store's folder.
func (p Place) file() string {
	return path.Join(p.dir(), p.Protection(), fmt.Sprintf("%x", sha256.Sum256([]byte(p.Path))))
}

func (p Place) check() error {
	switch {
	case !instanceRE().MatchString(p.Instance) || p.ProjectID <= 0:
		return errors.New("a cache of no project")
	case len(p.Path) > maxPath:
		return fmt.Errorf("a key of %d bytes: at most %d are possible, choose a shorter one", len(p.Path), maxPath)
	case !utf8.ValidString(p.Path) || strings.ContainsRune(p.Path, 0):
		return errors.New("a key that is no UTF-8: choose another")
	case p.Path == "" || path.IsAbs(p.Path) || path.Clean(p.Path) != p.Path || p.Path == "." || p.Path == ".." || strings.HasPrefix(p.Path, "../"):
		return errors.New("a path that leads out of the folder of caches")
	}
	return nil
}

// encode writes the header: magic, digest of the text, its length, the text.
// The digest is against accidents; what keeps others out is the folder's mode.
func (h Header) encode() ([]byte, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, headerSize), magic...)
	sum := sha256.Sum256(text)
	b = append(b, sum[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	if len(b)+len(text) > headerSize {
		return nil, errors.New("its key and the project's path are too long")
	}
	return append(b, text...)[:headerSize], nil
}

func decode(b []byte) (h Header, err error) {
	const fixed = len(magic) + sha256.Size + 4
	if len(b) != headerSize || !bytes.HasPrefix(b, []byte(magic)) {
		return h, errors.New("it is no cache of ours, or was not finished")
	}
	sum, n := b[len(magic):fixed-4], binary.BigEndian.Uint32(b[fixed-4:])
	if int64(n) > int64(len(b)-fixed) {
		return h, errors.New("its header is broken")
	}
	text := b[fixed:][:n]
	if real := sha256.Sum256(text); !bytes.Equal(sum, real[:]) {
		return h, errors.New("its header is broken")
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return h, errors.New("its header is not as we write it")
	}
	if h.Size < 0 || h.check() != nil {
		return h, errors.New("its header is not as we write it")
	}
	return h, nil
}
