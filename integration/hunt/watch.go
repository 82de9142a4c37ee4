package hunt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// fleeting is how many bytes of one file a watch keeps.
const fleeting = 4 << 20

// watch reads files that are made in folders (inotify(7)). It opens a file
// when it is made and reads it when its writer has closed it: by then its name
// may be gone, as that of the specification which the engine's shim writes for
// an exec is after some milliseconds.
type watch struct {
	to      *Recorder
	notify  *os.File
	folders map[int32]string
	open    map[string]*os.File
	work    sync.WaitGroup
}

func newWatch(folders []string, to *Recorder) (*watch, error) {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	// Not blocking, so that close ends a read.
	w := &watch{to: to, notify: os.NewFile(uintptr(fd), "inotify"), folders: map[int32]string{}, open: map[string]*os.File{}}
	for _, folder := range folders {
		n, err := syscall.InotifyAddWatch(fd, folder, syscall.IN_CREATE|syscall.IN_CLOSE_WRITE|syscall.IN_MOVED_TO|syscall.IN_DELETE|syscall.IN_ONLYDIR)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("watch %s: %w", folder, err), w.notify.Close())
		}
		w.folders[int32(n)] = folder
	}
	w.work.Go(w.listen)
	return w, nil
}

// close reads what is still open, too.
func (w *watch) close() error {
	err := w.notify.Close()
	w.work.Wait()
	for path := range w.open {
		w.read(path)
	}
	return err
}

func (w *watch) listen() {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.notify.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err == nil {
			err = events(buf[:n], w.event)
		}
		if err != nil {
			w.to.fail(fmt.Errorf("inotify: %w", err))
			return
		}
	}
}

// events takes inotify's records apart: a watch, a mask, a cookie, a length,
// and so many bytes of a name that NULs fill up.
func events(b []byte, each func(watch int32, mask uint32, name string)) error {
	for len(b) > 0 {
		if len(b) < syscall.SizeofInotifyEvent {
			return io.ErrUnexpectedEOF
		}
		watch, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
		length := uint64(binary.NativeEndian.Uint32(b[12:]))
		b = b[syscall.SizeofInotifyEvent:]
		if length > uint64(len(b)) {
			return io.ErrUnexpectedEOF
		}
		each(watch, mask, strings.TrimRight(string(b[:length]), "\x00"))
		b = b[length:]
	}
	return nil
}

func (w *watch) event(watch int32, mask uint32, name string) {
	path := filepath.Join(w.folders[watch], name)
	switch {
	case mask&syscall.IN_Q_OVERFLOW != 0:
		w.to.fail(errors.New("more files were made than could be looked at"))
	case mask&syscall.IN_ISDIR != 0 || name == "":
	case mask&syscall.IN_CREATE != 0:
		w.hold(path)
	case mask&syscall.IN_DELETE != 0:
		w.read(path)
	default:
		if w.open[path] == nil { // written to once more, or moved here
			w.hold(path)
		}
		w.read(path)
	}
}

// hold opens a file. Not being one it is left alone.
func (w *watch) hold(path string) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		w.to.miss(path, "a file that was gone before it could be opened")
		return
	}
	if err != nil {
		w.to.miss(path, "a link, a socket, or nothing that opens")
		return
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || len(w.open) >= 256 {
		if err == nil && info.Mode().IsRegular() {
			w.to.fail(errors.New("more than 256 files are being written at once"))
		}
		f.Close()
		return
	}
	if old := w.open[path]; old != nil {
		old.Close()
	}
	w.open[path] = f
}

// read keeps what stands in a file that is held, from its beginning.
func (w *watch) read(path string) {
	f := w.open[path]
	if f == nil {
		return
	}
	delete(w.open, path)
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, fleeting+1))
	if err != nil {
		w.to.miss(path, "a file that could not be read")
		return
	}
	if len(b) > fleeting {
		w.to.miss(path, "a file of more than 4 MiB, of which the rest is not kept")
	}
	w.to.keep(path+", while it was there", string(b[:min(len(b), fleeting)]))
}
