// Package file gives out secrets that somebody else has put into a folder, one
// file a secret: systemd's credentials, a mounted volume of a CSI driver, what
// SOPS decrypted.
//
// What it promises: only a plain file inside the folder is read, and only when
// nobody but root and ourselves could have read or written it. A value is the
// file's content without one newline at its end, and was made when the file
// was last written. Nothing here can be revoked: a value is good until whoever
// filled the folder replaces it.
package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"cleanroom/config"
	"cleanroom/executor/secret"
)

// Provider reads one folder.
type Provider struct {
	name, dir string
}

// New makes the provider of a configuration's table; it reads nothing.
func New(p config.Provider) (*Provider, error) {
	dir := p.Files.Dir
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir || dir == "/" {
		return nil, fmt.Errorf("%w: file.dir: %q must be the absolute, clean path of a folder", config.ErrConfig, dir)
	}
	return &Provider{p.Name, dir}, nil
}

// Fetch gives the one field value. ErrRefused: there is no such file, or it is
// not as safe as it has to be.
func (p *Provider) Fetch(_ context.Context, r secret.Request) (secret.Issued, error) {
	name := r.Secret.Path
	if name == "" {
		name = r.Secret.Name
	}
	text, written, err := p.read(name)
	if err != nil {
		return secret.Issued{}, fmt.Errorf("provider %s: %w", p.name, err)
	}
	return secret.Issued{Fields: map[string]string{"value": text}, Rotated: written}, nil
}

func (p *Provider) read(name string) (string, time.Time, error) {
	// os.Root would allow a/../b, which is for nobody to write.
	if !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "\x00\n") {
		return "", time.Time{}, fmt.Errorf("%w: %q is no name of a file in %s: write it relative to that, without ..", secret.ErrRefused, name, p.dir)
	}
	root, err := os.OpenRoot(p.dir)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("%w: create the folder or correct file.dir", err)
	}
	defer root.Close()
	if err := p.folders(root, name); err != nil {
		return "", time.Time{}, err
	}
	// Without O_NONBLOCK a FIFO would keep us until somebody writes to it.
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", time.Time{}, p.refuse(name, err)
	}
	defer f.Close()
	if err := p.folders(root, p.real(name)); err != nil {
		return "", time.Time{}, err
	}
	text, written, err := private(f)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("%s: %w", path.Join(p.dir, name), err)
	}
	return text, written, nil
}

// real is where links lead a name, which os.Root has found to be inside.
func (p *Provider) real(name string) string {
	dir, err := filepath.EvalSymlinks(p.dir)
	if err == nil {
		var to string
		if to, err = filepath.EvalSymlinks(filepath.Join(dir, name)); err == nil {
			to, err = filepath.Rel(dir, to)
		}
		if err == nil {
			return to
		}
	}
	return name // gone by now: what is open was checked under this name
}

// folders checks those on the way to a name.
func (p *Provider) folders(root *os.Root, name string) error {
	for folder := path.Dir(name); ; folder = path.Dir(folder) {
		if err := p.folder(root, folder); err != nil || folder == "." {
			return err
		}
	}
}

// folder refuses one in which others could put a file of their own.
func (p *Provider) folder(root *os.Root, name string) error {
	info, err := root.Stat(name)
	if err != nil {
		return p.refuse(name, err)
	}
	if why := looseFolder(info.Mode(), owner(info), os.Geteuid()); why != "" {
		return fmt.Errorf("%w: folder %s %s", secret.ErrRefused, path.Join(p.dir, name), why)
	}
	return nil
}

// refuse says what the system's error means here.
func (p *Provider) refuse(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: there is no %s in %s: put it there, or correct the secret's path", secret.ErrRefused, name, p.dir)
	case strings.Contains(err.Error(), "path escapes"): // os.Root has no error of a name for this
		return fmt.Errorf("%w: %s is a link that leads out of %s: put the file itself there", secret.ErrRefused, name, p.dir)
	}
	var sys syscall.Errno
	if errors.As(err, &sys) {
		return fmt.Errorf("%s: %w", path.Join(p.dir, name), sys)
	}
	return fmt.Errorf("%s: %w", path.Join(p.dir, name), err)
}

// Renew refuses: a file has no lease.
func (p *Provider) Renew(context.Context, secret.Lease, time.Time) (time.Time, error) {
	return time.Time{}, fmt.Errorf("%w: a file has no lease to renew", secret.ErrRefused)
}

// Revoke says ErrNotRevocable.
func (p *Provider) Revoke(context.Context, secret.Lease) error {
	return fmt.Errorf("a file %w: replace it at its source", secret.ErrNotRevocable)
}
