package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"cleanroom/executor/audit/joblog"
)

// Sources are where job logs are.
type Sources struct {
	Dir       string // folder of them; empty: none
	GitLab    string // URL of a server; empty: none
	TokenFile string // empty: joblog.TokenVariable of the environment
	CAFile    string // PEM; empty: the system's authorities
	Project   string // whose jobs, path or number: this or Runner
	Runner    int64  // number
	Since     time.Duration
}

// Gather reads all that can be read. Its error is ctx's, or of what was asked:
// a folder that is not there, no token, neither project nor runner.
func (s Sources) Gather(ctx context.Context) (*Gathered, error) {
	g := &Gathered{Asked: s.Dir != "" || s.GitLab != ""}
	var server *joblog.GitLab
	if s.GitLab != "" { // what was asked wrongly need not wait for a folder
		if (s.Project == "") == (s.Runner == 0) {
			return nil, errors.New("say whose logs to fetch: --runner NUMBER, or --project PATH")
		}
		token, err := joblog.Token(s.TokenFile, os.Environ())
		if err != nil {
			return nil, err
		}
		if server, err = joblog.Open(s.GitLab, token, s.CAFile); err != nil {
			return nil, err
		}
	}
	if s.Dir != "" {
		if err := g.folder(ctx, s.Dir); err != nil {
			return nil, err
		}
	}
	if server == nil {
		return g, nil
	}
	log := func(job int64, r io.Reader) error { return g.Log(logOf(job), r) }
	lost := func(job int64, why error) { g.lost(logOf(job), why) }
	var err error
	if s.Runner != 0 {
		err = server.Runner(ctx, s.Runner, time.Now().Add(-s.Since), log, lost)
	} else {
		err = server.Project(ctx, s.Project, 0, 1<<62, log, lost)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		g.CutOff = err.Error()
	}
	return g, nil
}

func logOf(job int64) string { return fmt.Sprintf("the log of job %d", job) }

// folder reads every file below a folder as a job's log.
func (g *Gathered) folder(ctx context.Context, dir string) error {
	if info, err := os.Stat(dir); err != nil {
		return err
	} else if !info.IsDir() {
		return fmt.Errorf("%s is no folder: name the one that the job logs are in", dir)
	}
	return filepath.WalkDir(dir+string(filepath.Separator), func(path string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			g.lost(path, bare(err))
			return nil
		case d.IsDir():
			return nil
		case !d.Type().IsRegular():
			g.lost(path, errors.New("it is no plain file"))
			return nil
		}
		f, err := os.Open(path)
		if err == nil {
			err = g.Log(path, f)
			f.Close()
		}
		if err != nil {
			g.lost(path, bare(err))
		}
		return nil
	})
}

// bare is an error without the path, which is named already.
func bare(err error) error {
	var of *fs.PathError
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}
