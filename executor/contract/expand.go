package contract

import (
	"os"
	"path"
	"slices"
)

// tempProjectDir names the folder of file variables, as the runner does.
const tempProjectDir = "RUNNER_TEMP_PROJECT_DIR"

// runnerFiles are file variables that the runner makes itself, so that the
// response does not list them (helpers/tls in its source).
var runnerFiles = []string{"CI_SERVER_TLS_CA_FILE", "CI_SERVER_TLS_CERT_FILE", "CI_SERVER_TLS_KEY_FILE"}

// fileNames are the variables that hold the content of a file. Where a name
// comes twice, the last definition holds, as in the runner.
func (j *Job) fileNames() map[string]bool {
	files := map[string]bool{}
	for _, name := range runnerFiles {
		files[name] = true
	}
	for _, v := range j.Variables {
		files[v.Key] = v.File
	}
	for name, secret := range j.Secrets {
		files[name] = secret.File == nil || *secret.File
	}
	return files
}

// expander gives the runner's own lookup (Variables.Get in its common/spec):
// values are already expanded, a file variable stands for its path, and what
// is not set is empty.
func (c *Call) expander(files map[string]bool, more []Variable) func(string) string {
	return func(name string) string {
		switch name {
		case "$":
			return name
		case "*", "#", "@", "!", "?", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9":
			return ""
		}
		for _, v := range slices.Backward(more) {
			if v.Key == name {
				if v.File {
					return path.Join(c.Variables[tempProjectDir], name)
				}
				return v.Value
			}
		}
		value, ok := c.Variables[name]
		if ok && files[name] {
			return path.Join(c.Variables[tempProjectDir], name)
		}
		return value
	}
}

// Image is the job's image as the runner's docker executor would take it:
// name, alias, user and platform expanded; entrypoint and command not, since
// what looks like a variable there belongs to a shell in the room.
func (c *Call) Image() (Image, error) {
	job, err := c.Job()
	if err != nil {
		return Image{}, err
	}
	return job.Image.expand(c.expander(job.fileNames(), nil)), nil
}

func (i Image) expand(get func(string) string) Image {
	i.Name = os.Expand(i.Name, get)
	i.Alias = os.Expand(i.Alias, get)
	i.ExecutorOpts.Docker.User = Text(os.Expand(string(i.ExecutorOpts.Docker.User), get))
	i.ExecutorOpts.Docker.Platform = os.Expand(i.ExecutorOpts.Docker.Platform, get)
	return i
}

// ContainerEnv is the environment of the job's containers, as sorted KEY=VALUE
// lines: all of the job's variables but those of file type (their content
// must not stand where a path is expected: each stage's script exports the
// path itself) and names that no shell could use.
func (c *Call) ContainerEnv() ([]string, error) {
	job, err := c.Job()
	if err != nil {
		return nil, err
	}
	files := job.fileNames()
	env := make([]string, 0, len(c.Variables))
	for _, name := range c.names() {
		if !files[name] && validName(name) {
			env = append(env, name+"="+c.Variables[name])
		}
	}
	return env, nil
}

func validName(name string) bool {
	for i, r := range []byte(name) {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == '_':
		case i > 0 && r >= '0' && r <= '9':
		default:
			return false
		}
	}
	return name != ""
}
