package register

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxFile bounds a config.toml, in bytes.
const maxFile = 16 << 20

// File registers in the config.toml at path. A file that changes keeps its
// mode and owner and leaves what it was in path.bak; it is replaced at once
// or not at all. A file that is not there is made, with mode 0600, since it
// holds the runner's token. No changes mean that nothing was written.
func File(path string, opts Options) (changes []string, err error) {
	// The runner's file may be a link into a folder that is managed.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	} else if dir := filepath.Dir(path); missing(dir) {
		return nil, fmt.Errorf("%w: the folder %s is missing: make it, or name another file with --runner-config", ErrOptions, dir)
	}
	old, info, err := read(path)
	if err != nil {
		return nil, err
	}
	text, changes, err := Register(old, opts)
	if err != nil || len(changes) == 0 {
		return nil, err
	}
	mode := fs.FileMode(0o600)
	if info != nil {
		mode = info.Mode().Perm()
		if err := replace(path+".bak", old, mode, info); err != nil {
			return nil, fmt.Errorf("keeping a copy: %w", err)
		}
		now, err := os.Stat(path)
		if err != nil || !os.SameFile(info, now) || now.Size() != info.Size() || !now.ModTime().Equal(info.ModTime()) {
			return nil, ErrChanged
		}
	}
	if err := replace(path, text, mode, info); err != nil {
		return nil, err
	}
	return changes, nil
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

func read(path string) ([]byte, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%w: %s is no plain file", ErrSyntax, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%w: %s has more than %d bytes", ErrSyntax, path, maxFile)
	}
	return text, info, err
}

// replace writes a new file and puts it in path's place. The new one has the
// owner of like, when there is one.
func replace(path string, text []byte, mode fs.FileMode, like fs.FileInfo) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if like != nil {
		if stat, ok := like.Sys().(*syscall.Stat_t); ok && (int(stat.Uid) != os.Geteuid() || int(stat.Gid) != os.Getegid()) {
			if err := f.Chown(int(stat.Uid), int(stat.Gid)); err != nil {
				return fmt.Errorf("keeping the owner of %s: %w", path, err)
			}
		}
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return nil // the rename holds
	}
	defer folder.Close()
	_ = folder.Sync()
	return nil
}
