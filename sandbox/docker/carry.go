package docker

import (
	"context"
	"errors"
	"fmt"
	"io"

	"cleanroom/sandbox"
	"cleanroom/sandbox/initproto"
)

// inside implements sandbox.Inside over the stage's connection.
type inside struct {
	c       *initproto.Client
	brought []sandbox.Entry
}

// newFileMode is for those who run the container's stages.
const newFileMode = 0o600

func (i *inside) Bring(ctx context.Context, f sandbox.NewFile, content io.Reader) (sandbox.Entry, error) {
	made, err := i.c.Write(ctx, initproto.NewFile{
		Dir: f.Dir, Path: f.Path, Mode: newFileMode, Modified: f.Modified.UnixNano(), Size: f.Size,
	}, content)
	switch {
	case errors.Is(err, initproto.ErrNotWritten):
		return sandbox.Entry{}, fmt.Errorf("%w: %w", sandbox.ErrNotBrought, err)
	case err != nil:
		return sandbox.Entry{}, listError{err}
	}
	i.brought = append(i.brought, sandbox.Entry(made))
	return sandbox.Entry(made), nil
}

func (i *inside) Look(ctx context.Context, dir string) (sandbox.Files, error) {
	f := &files{c: i.c, last: -1}
	note, err := i.c.List(ctx, dir, []initproto.FileSet{{Paths: []string{"."}}}, func(e initproto.Entry) error {
		f.list = append(f.list, sandbox.Entry(e))
		return nil
	})
	if err != nil {
		return nil, listError{err}
	}
	f.note = note
	return f, nil
}

// Copy implements sandbox.Files, with one question whatever the file's size.
func (f *files) Copy(ctx context.Context, e sandbox.Entry, w io.Writer) error {
	err := f.c.Read(ctx, initproto.Entry(e), 0, e.Size, w)
	if err == nil || errors.Is(err, initproto.ErrChanged) {
		return changed(err)
	}
	return listError{err}
}
