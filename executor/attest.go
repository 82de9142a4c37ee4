package executor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"cleanroom/executor/audit/dossier"
	"cleanroom/executor/audit/provenance"
	"cleanroom/executor/audit/record"
	"cleanroom/executor/contract"
	"cleanroom/executor/identity"
	"cleanroom/sandbox"
)

// KeepProvenance is how long envelopes are kept here; reap removes what is
// older.
const KeepProvenance = 90 * 24 * time.Hour

// maxRecorded is how many of an upload's files the job's record names: the
// envelope, of which it has the hash, has all.
const maxRecorded = 100

// ErrPlace is a project in which provenance cannot be put where it belongs.
var ErrPlace = errors.New("the provenance cannot be put among the artifacts")

// Vouch is for Attest: it signs where the files come from, keeps that on this
// host and puts it into the job's record. What was decided at prepare is known
// from the dossier, as this is another process. A job about which too little is
// known stores its files without, and is told; a key that does not sign ends
// the stage, since files without provenance would look like those of others.
func (x *Executor) Vouch(ctx context.Context, up Upload) (envelope []byte, err error) {
	room, _, err := x.room()
	if err != nil {
		return nil, err
	}
	job, err := x.Call.Job()
	if err != nil {
		return nil, err
	}
	line := &x.gather.line
	line.Artifacts, line.Provenance, line.Gaps = nil, nil, nil // of a look before this one
	hide := func(text string) string { return unmasked(x.Call, up.Hide(text)) }
	known := dossier.Read(x.Config.DataDir, room).Job
	about := provenance.Job{
		Facts: factsOf(known.Facts), Repository: job.GitInfo.RepoURL, Artifacts: up.Artifacts, Stage: up.Stage, Profile: known.Profile,
		Builder: x.Audit.Builder, Version: x.Version, Started: known.Began, Finished: time.Now(),
	}
	for _, i := range known.Images {
		about.Images = append(about.Images, provenance.Image{Role: i.Role, Digest: i.Digest, ID: i.ID})
	}
	var files []provenance.File
	for _, f := range up.Files {
		files = append(files, f.File)
	}
	made, err := x.Audit.Seal(ctx, about, files, hide)
	switch {
	case errors.Is(err, provenance.ErrNoSubject):
		return nil, nil
	case errors.Is(err, provenance.ErrJob):
		x.sayf("Warning: %v", err)
		x.Log.WithError(err).Warn("provenance")
		line.Gaps = []string{"provenance of " + up.Stage + ": " + err.Error()}
		return nil, nil
	case err != nil:
		return nil, err
	}
	envelope = made.Line
	if err := provenance.Keep(x.Config.DataDir, room, envelope); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(envelope)
	of := record.Provenance{Stage: up.Stage, SHA256: hex.EncodeToString(sum[:]), Subjects: made.Subjects}
	var told []record.Artifact
	for _, f := range up.Files {
		if f.SHA256 == nil {
			of.Withheld++
			continue
		}
		if of.Files++; of.Files <= maxRecorded {
			told = append(told, record.Artifact{Stage: up.Stage, Path: hide(f.Path), Bytes: f.Size, SHA256: hex.EncodeToString(f.SHA256)})
		}
	}
	line.Provenance, line.Artifacts = []record.Provenance{of}, told
	x.sayf("Provenance: signed for %d files, %d bytes with SHA-256 %s", of.Files, len(envelope), of.SHA256)
	return envelope, nil
}

// factsOf turns facts of a record back into what they were.
func factsOf(all []record.Fact) identity.Facts {
	facts := identity.Facts{}
	for _, f := range all {
		facts[f.Fact] = identity.Fact{Value: f.Is, Source: f.Source}
	}
	return facts
}

// provenanceFile is where in the project's folder provenance goes; empty:
// nowhere.
func (x *Executor) provenanceFile() string {
	if x.Attest == nil {
		return ""
	}
	return x.Config.Audit.ProvenanceFile
}

// bring puts the envelope among the files, if an artifact may take it from
// there: in the place of one that the job may have made, which nobody is to
// take for ours. Where there is no envelope that one is made empty.
func (s *search) bring(ctx context.Context, in sandbox.Inside) error {
	file := s.digests.ours
	wanted := s.envelope != nil && len(contract.Holders(s.stored, s.digests.dir, file)) > 0
	if !wanted && !s.planted {
		return nil
	}
	// From the folder above all, which no job can replace by a link; none below
	// it leads out of it.
	dir := s.x.Config.Room.BuildsDir
	below, ok := strings.CutPrefix(path.Join(s.digests.dir, file), dir+"/")
	if !ok {
		return fmt.Errorf("%w: the project's folder %s is not below %s", ErrPlace, s.digests.dir, dir)
	}
	_, err := in.Bring(ctx, sandbox.NewFile{Dir: dir, Path: below, Modified: time.Now(), Size: int64(len(s.envelope))}, bytes.NewReader(s.envelope))
	if errors.Is(err, sandbox.ErrNotBrought) {
		return fmt.Errorf("%w, as %s: keep folders and links away from there: %w", ErrPlace, file, err)
	}
	return err
}

// listed says whether there is a file, or something else, of that path.
func listed(files sandbox.Files, path string) bool {
	return path != "" && slices.ContainsFunc(files.Entries(), func(e sandbox.Entry) bool { return e.Path == path })
}
