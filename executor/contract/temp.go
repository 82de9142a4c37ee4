package contract

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
)

// tempName is how the runner's custom executor calls the folder that it makes
// for each job (os.MkdirTemp("", "custom-executor") in its executors/custom).
var tempName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^custom-executor[0-9]+$`) })

// RemoveTemp removes the runner's temporary folder of a job: its response and
// all its scripts, with variables and tokens in the clear. That is the runner's
// to do, after cleanup; one that was killed leaves them. A folder that is gone
// is no error. What is not such a folder is left alone.
func RemoveTemp(dir string) (removed bool, err error) {
	if !tempName().MatchString(filepath.Base(dir)) || !filepath.IsAbs(dir) {
		return false, nil
	}
	info, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 || !ok || int(st.Uid) != os.Geteuid() {
		return false, fmt.Errorf("%s is not as the runner makes it (a folder of mode 0700, owned by uid %d): left alone", dir, os.Geteuid())
	}
	return true, os.RemoveAll(dir)
}
