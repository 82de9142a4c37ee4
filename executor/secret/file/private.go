package file

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"cleanroom/executor/secret"
)

// maxFile bounds a file, in bytes. It is what Kubernetes and systemd bound a
// secret to.
const maxFile = 1 << 20

// ReadPrivate reads a file that an admin keeps for us, such as the secret of an
// OAuth client: a plain file of at most 1 MiB that belongs to root or us and
// that nobody else may read or write. Links are followed, one newline at the
// end is trimmed. ErrRefused: the file is not like that.
func ReadPrivate(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, _, err := private(f)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return text, nil
}

// private reads an open file, so that what is checked is what is read.
func private(f *os.File) (text string, written time.Time, err error) {
	before, err := f.Stat()
	if err != nil {
		return "", time.Time{}, err
	}
	if why := loose(before.Mode(), owner(before), os.Geteuid()); why != "" {
		return "", time.Time{}, fmt.Errorf("%w: it %s", secret.ErrRefused, why)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", time.Time{}, err
	}
	after, err := f.Stat()
	if err != nil {
		return "", time.Time{}, err
	}
	text = strings.TrimSuffix(string(b), "\n")
	switch {
	case len(b) > maxFile:
		return "", time.Time{}, fmt.Errorf("%w: it has more than 1 MiB: a secret must be smaller", secret.ErrRefused)
	case !after.ModTime().Equal(before.ModTime()) || after.Size() != before.Size():
		// Half of the old value and half of the new would be no secret at all.
		return "", time.Time{}, fmt.Errorf("it was written to while it was read: replace it by renaming, and try again")
	case text == "":
		return "", time.Time{}, fmt.Errorf("%w: it is empty: write the secret into it", secret.ErrRefused)
	}
	return text, before.ModTime(), nil
}

// loose says why a file is not safe; empty: it is.
func loose(mode fs.FileMode, owner, we int) string {
	switch {
	case !mode.IsRegular():
		return "is no plain file: put one there"
	case owner != 0 && owner != we:
		return fmt.Sprintf("belongs to user %d: chown it to root or to the user of the runner", owner)
	case mode.Perm()&0o066 != 0:
		return fmt.Sprintf("has mode %04o, so that others may read or write it: chmod it to 0400 or 0600", mode.Perm())
	}
	return ""
}

// looseFolder is loose for a folder, which others may read: names are no
// secret.
func looseFolder(mode fs.FileMode, owner, we int) string {
	switch {
	case !mode.IsDir():
		return "is no folder: correct the secret's path"
	case owner != 0 && owner != we:
		return fmt.Sprintf("belongs to user %d: chown it to root or to the user of the runner", owner)
	case mode.Perm()&0o002 != 0:
		return fmt.Sprintf("has mode %04o, so that others may write to it: chmod o-w it", mode.Perm())
	}
	return ""
}

// owner is the user id that a file belongs to; an impossible one if the system
// does not say, so that it is nobody's.
func owner(info fs.FileInfo) int {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid)
	}
	return -1
}
