package initproto

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// File is one file that init puts into the folder of a stage or a service. It
// belongs to the user that init runs as.
type File struct {
	Name string      // one path component of at most 255 bytes, not beginning with ".."
	Mode fs.FileMode // permission bits only; 0 means 0400
	Data []byte
}

// MaxFiles is how many files a stage or a service may have.
const MaxFiles = 100

const (
	maxFileName = 255 // NAME_MAX of every Linux file system that matters
	defaultMode = 0o400
)

// checkFiles is asked on both sides: before they are sent, and of what came.
func checkFiles(dir string, files []File) error {
	if dir == "" && len(files) == 0 {
		return nil
	}
	if !path.IsAbs(dir) || path.Clean(dir) != dir || dir == "/" || strings.IndexByte(dir, 0) >= 0 {
		return fmt.Errorf("folder of files %q: give a clean absolute path, not the root", clean(dir))
	}
	if len(files) > MaxFiles {
		return fmt.Errorf("%d files: at most %d are allowed", len(files), MaxFiles)
	}
	seen := make(map[string]bool, len(files))
	for _, f := range files {
		if err := checkFileName(f.Name); err != nil {
			return fmt.Errorf("file %q: %w", clean(f.Name), err)
		}
		if f.Mode&^fs.ModePerm != 0 {
			return fmt.Errorf("file %q: its mode may have permission bits only", clean(f.Name))
		}
		if seen[f.Name] {
			return fmt.Errorf("file %q is there twice: give each its own name", clean(f.Name))
		}
		seen[f.Name] = true
	}
	return nil
}

func checkFileName(name string) error {
	switch {
	case name == "":
		return errors.New("it has no name")
	case len(name) > maxFileName:
		return fmt.Errorf("its name is longer than %d bytes", maxFileName)
	case name == "." || strings.HasPrefix(name, ".."):
		return errors.New(`its name may not be "." or begin with ".."`)
	case strings.ContainsAny(name, "/\x00"):
		return errors.New("its name may not hold a slash or a zero byte")
	}
	return nil
}

// files writes name, mode and content of each.
func (e *encoder) files(list []File) {
	e.num(int64(len(list)))
	for _, f := range list {
		e.str(f.Name)
		e.num(int64(f.Mode))
		e.num(int64(len(f.Data)))
		e.b = append(e.b, f.Data...)
	}
}

// files is the reverse. The content is a copy, for the frame's buffer is
// overwritten as soon as the frame is understood.
func (d *decoder) files() []File {
	n := d.length()
	if n > MaxFiles {
		d.fail("too many files")
		return nil
	}
	var list []File
	for i := 0; i < n && d.err == nil; i++ {
		name, mode := d.str(), d.num()
		if mode < 0 || mode > int64(fs.ModePerm) {
			d.fail("file mode out of range")
		}
		if mode == 0 {
			mode = defaultMode
		}
		list = append(list, File{Name: name, Mode: fs.FileMode(mode), Data: slices.Clone(d.bytes())})
	}
	return list
}

// filesIn reads a folder and its files.
func (d *decoder) filesIn() (dir string, files []File) {
	dir, files = d.str(), d.files()
	if d.err == nil {
		if err := checkFiles(dir, files); err != nil {
			d.fail(err.Error())
		}
	}
	return dir, files
}
