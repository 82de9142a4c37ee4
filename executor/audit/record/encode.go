package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"cleanroom/executor/audit/canonical"
)

// MaxSize of a record, in bytes: an entry of the log has at most 65535.
const MaxSize = 60 << 10

// Errors of Decode.
var (
	// ErrRecord is no record of ours.
	ErrRecord = errors.New("no audit record")
	// ErrVersion is one that a newer cleanroom wrote.
	ErrVersion = errors.New("record of a version that this cleanroom does not know: use a newer one")
)

// Check holds a record's text against the schema: schema.Check, where it is
// linked. Without it no record is made or read.
var Check func(text []byte) error

func validate(text []byte) error {
	if Check == nil {
		return fmt.Errorf("%w: this program has no schema", ErrRecord)
	}
	if err := Check(text); err != nil {
		return fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return nil
}

// MakeID names a thing by what it is of, so that one that is told again, after a
// crash, is known to be the same.
func MakeID(kind Kind, of ...string) string {
	h := sha256.New()
	fmt.Fprintf(h, "cleanroom record 1 %s\n", kind) // the same whoever tells it again, also after an upgrade
	for _, part := range of {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Encode gives a record's bytes. What does not fit is cut, in the record
// itself too. The error is of a record that does not fit the schema, as one
// made from a file that somebody damaged may be; it wraps ErrRecord.
func (r *Record) Encode() ([]byte, error) {
	r.Version = Version
	r.tidy()
	text, err := r.fit()
	if err != nil {
		return nil, err
	}
	return text, validate(text)
}

func (r *Record) canonical() ([]byte, error) {
	text, err := canonical.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("audit record: %w", err)
	}
	return text, nil
}

// Decode reads what Encode gave, to the byte: what has an unknown field, one
// twice, or is written in another way, is refused. Errors wrap ErrRecord or
// ErrVersion.
func Decode(text []byte) (*Record, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrRecord, len(text), MaxSize)
	}
	if err := versionOf(text); err != nil {
		return nil, err
	}
	r := &Record{}
	if err := canonical.DecodeExact(text, r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if err := validate(text); err != nil {
		return nil, err
	}
	return r, nil
}

// ours is how a record of this version ends: its names are sorted.
var ours = fmt.Appendf(nil, `"version":%d}`, Version)

func versionOf(text []byte) error {
	if bytes.HasSuffix(text, ours) {
		return nil
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if head.Version > Version {
		return fmt.Errorf("%w: version %d", ErrVersion, head.Version)
	}
	return nil // and what is wrong with it is said below
}
