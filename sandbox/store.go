package sandbox

import (
	"context"
	"errors"
	"io"
	"io/fs"
)

// ErrChanged is about a file that is stored, or is to be, and is no longer the
// one that was looked through.
var ErrChanged = errors.New("what is stored is not what was looked through")

// FileSet chooses files as the runner's uploader does: Paths and Exclude are
// its globs, Untracked adds what git does not track.
type FileSet struct {
	Paths, Exclude []string
	Untracked      bool
}

// Store is a stage that stores files outside of the room. From before Check
// until the end of the stage nothing of the job's can write to them: its
// container is frozen, and stays so until its next stage.
type Store struct {
	Dir string // the project's folder, in the container of the stage
	// EnvFile is a file in that container of which the choice depends; empty:
	// none.
	EnvFile string
	// Choose chooses the files; env is what EnvFile holds, nil if it is not
	// there. Of all but writes, paths below Dir to which the stage's own script
	// writes, it is an ErrChanged when they change while it runs.
	Choose func(env []byte) (sets []FileSet, writes []string)
	// Check looks through the files before the script runs. Its error ends the
	// stage and is returned as it is.
	Check func(ctx context.Context, files Files) error
}

// Files are those that a Store is about.
type Files interface {
	// Entries are sorted by path, each path once.
	Entries() []Entry
	// Note, unless empty, says which choice could not be made as the runner
	// makes it and was made wider.
	Note() string
	// Open opens a regular file, and asks least of the room when files are
	// opened in order. Errors (also of reading) that wrap ErrChanged, or say
	// that the file cannot be read, are about this file alone. It may be used
	// by many at once, as what it returns may.
	Open(ctx context.Context, e Entry) (OpenFile, error)
	// Copy writes a regular file's content to w, front to back, which is the
	// quickest for a large one. An error that wraps ErrChanged is about this file
	// alone; any other is to be returned as it is, and so one of w.
	Copy(ctx context.Context, e Entry, w io.Writer) error
}

// OpenFile is read in any order.
type OpenFile interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Entry is one file, folder, link or other thing. Its path and target are the
// job's: any bytes but zero, to be cleaned before they are shown.
type Entry struct {
	Path   string // relative to Dir, clean, with slashes
	Mode   fs.FileMode
	Target string // of a link
	Size   int64
	Dev    uint64
	Ino    uint64
	Mtime  int64 // nanoseconds
	Ctime  int64
}
