// Package artifact keeps what jobs upload. It promises to take nothing that is not of the type and format it was announced
// as, and to read a dotenv report the way GitLab does.
package artifact

import (
	"archive/zip"
	"bufio"
	"compress/gzip"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/gitlab/wire"
)

// Receive keeps the file of an upload below dir, if it is what the request says it is.
func Receive(r *http.Request, dir string) (job.Upload, error) {
	up := job.Upload{Type: r.URL.Query().Get("artifact_type"), Format: r.URL.Query().Get("artifact_format")}
	if up.Type == "" {
		up.Type = "archive"
	}
	if up.Format == "" {
		up.Format = "zip"
	}
	if format, _, ok := wire.ReportFormat(up.Type); !ok || format != up.Format {
		return up, fmt.Errorf("artifact type %s in format %s", up.Type, up.Format)
	}
	parts, err := r.MultipartReader()
	if err != nil {
		return up, err
	}
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return up, errors.New("file is missing")
		}
		if err != nil {
			return up, err
		}
		if part.FormName() != "file" {
			continue
		}
		up.Name = filepath.Base(filepath.Clean("/" + part.FileName()))
		dir := filepath.Join(dir, up.Type+"-"+rand.Text()[:8])
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return up, err
		}
		up.File = filepath.Join(dir, up.Name)
		f, err := os.Create(up.File)
		if err != nil {
			return up, err
		}
		sum := sha256.New()
		up.Size, err = io.Copy(io.MultiWriter(f, sum), part)
		if err := errors.Join(err, f.Close()); err != nil {
			return up, err
		}
		up.SHA256 = hex.EncodeToString(sum.Sum(nil))
		return up, check(up)
	}
}

// check looks whether a file is of the format it was announced as.
func check(up job.Upload) error {
	switch up.Format {
	case "zip":
		z, err := zip.OpenReader(up.File)
		if err != nil {
			return fmt.Errorf("%s: %w", up.Name, err)
		}
		return z.Close()
	case "gzip":
		return eachLine(up.File, func(string) error { return nil })
	}
	return nil
}

// Archive finds the archive among what a job uploaded.
func Archive(st job.Status) (job.Upload, bool) {
	i := slices.IndexFunc(st.Artifacts, func(u job.Upload) bool { return u.Type == "archive" })
	if i < 0 {
		return job.Upload{}, false
	}
	return st.Artifacts[i], true
}

var dotenvKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Dotenv reads the variables that a job reported.
func Dotenv(st job.Status) (vars []wire.Variable, err error) {
	for _, up := range st.Artifacts {
		if up.Type != "dotenv" {
			continue
		}
		err := eachLine(up.File, func(line string) error {
			key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
				return nil
			}
			if !ok || !dotenvKey.MatchString(key) {
				return fmt.Errorf("dotenv report of job %d: line %q is not KEY=VALUE", st.ID, line)
			}
			if n := len(value); n > 1 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
				value = value[1 : n-1]
			}
			vars = append(vars, wire.Variable{Key: key, Value: value})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return vars, nil
}

// eachLine reads a gzipped file; several members one after the other are what a runner sends for several files.
func eachLine(file string, line func(string) error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	in := bufio.NewScanner(z)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		if err := line(in.Text()); err != nil {
			return err
		}
	}
	return in.Err()
}
