package stages

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Names of the two programs: front is the one that the runner calls, Admin all of
// cleanroom.
const (
	front = "cleanroom"
	Admin = "cleanroom-admin"
)

// frontVariable tells cleanroom-admin who put it in its place: version and
// path. It is taken out of the environment at once.
const frontVariable = "CLEANROOM_FRONT"

const together = "install cleanroom, cleanroom-admin and cleanroom-init of one version into one folder"

// HandOver puts cleanroom-admin in the place of this process: its number, what
// it has open, arguments and environment stay. It comes back with an error
// only.
func HandOver(version string) error {
	path := Beside(Admin)
	err := syscall.Exec(path, os.Args, append(os.Environ(), frontVariable+"="+version+" "+Self()))
	return fmt.Errorf("%s: %w: %s", path, err, together)
}

// Front is the path of the program that the runner calls, whoever of the two
// this one is. It takes what HandOver left out of the environment; an error says
// that both are not of one version.
func Front(version string) (path string, err error) {
	told, ok := os.LookupEnv(frontVariable)
	if !ok { // somebody called this one
		return Beside(front), nil
	}
	os.Unsetenv(frontVariable)
	theirs, path, _ := strings.Cut(told, " ")
	if theirs != version {
		return path, fmt.Errorf("%s is version %s and %s is version %s: %s", path, theirs, Self(), version, together)
	}
	return path, nil
}
