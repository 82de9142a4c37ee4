package sandbox

import (
	"context"
	"errors"
	"io"
	"time"
)

// ErrNotBrought is a file that is not in the room, nor anything of it. The room
// is as it was, and the stage can go on.
var ErrNotBrought = errors.New("file not brought into the room")

// NewFile is a file that is brought into a container, for the user that runs
// its stages and nobody else.
type NewFile struct {
	Dir      string // in the container, and there already: a folder of the room's own
	Path     string // below Dir, clean, with slashes; folders are made
	Modified time.Time
	Size     int64
}

// Inside is a stage's container, before or after its script.
type Inside interface {
	// Bring makes a file of what content holds, in the place of one that may be
	// there. It is there once content has given io.EOF: whole, or not at all.
	// An error of content, and what the container cannot do, wrap ErrNotBrought;
	// any other error is to be returned as it is.
	Bring(ctx context.Context, f NewFile, content io.Reader) (Entry, error)
	// Look lists all that is below a folder. Its error is to be returned as it
	// is.
	Look(ctx context.Context, dir string) (Files, error)
}
