package executor

import (
	"context"
	"crypto/sha256"
	"hash"
	"slices"

	"cleanroom/executor/audit/provenance"
	"cleanroom/executor/contract"
	"cleanroom/sandbox"
)

// Upload is what a stage will store as artifacts.
type Upload struct {
	Stage     string
	Artifacts []provenance.Artifact
	// Files are the regular ones, hashed as the guard read them, but for those
	// that the uploader itself may write, and the one that is ours.
	Files []UploadFile
	Hide  func(string) string // gives a text without the job's secrets
}

// UploadFile is one of its files, and how many bytes it has.
type UploadFile struct {
	provenance.File
	Size int64
}

// digests are those of what a stage stores. A nil one gathers nothing.
type digests struct {
	Upload
	dir  string
	ours string // path of the file that we put there; empty: none
}

// digests are gathered of an upload of artifacts, if somebody wants them. The
// artifacts' names are those of the response: expanded, they would have
// values of variables.
func (x *Executor) digests(stage, dir string, stored []contract.Stored) *digests {
	if x.Attest == nil || !contract.Uploads(stage) {
		return nil
	}
	d := &digests{Upload{Stage: stage}, dir, x.provenanceFile()}
	for _, s := range stored {
		d.Artifacts = append(d.Artifacts, provenance.Artifact{Type: s.What, Name: s.Name})
	}
	return d
}

func (d *digests) begin() {
	if d != nil {
		d.Files = nil
	}
}

// newSum is for one file; nil: it need not be hashed.
func (d *digests) newSum() hash.Hash {
	if d == nil {
		return nil
	}
	return sha256.New()
}

// add takes a file that was hashed whole. The hash of one that holds a secret
// would help to guess it, so that is left out. What the uploader may write over
// is not what will be stored, nor what is ours.
func (d *digests) add(path string, size int64, stored []contract.Stored, sum hash.Hash, holds bool) {
	if d == nil || path == d.ours || slices.ContainsFunc(stored, func(s contract.Stored) bool { return s.Statement == path }) {
		return
	}
	f := UploadFile{provenance.File{Path: path}, size}
	if !holds {
		f.SHA256 = sum.Sum(nil)
	}
	// What Expand adds behind those of the response are the same once more, wider.
	f.Artifacts = contract.Holders(stored[:len(d.Artifacts)], d.dir, path)
	d.Files = append(d.Files, f)
}

// attest hands over what was gathered.
func (s *search) attest(ctx context.Context, files sandbox.Files) (err error) {
	if s.digests == nil {
		return nil
	}
	up := s.digests.Upload
	up.Hide = s.hidden
	s.planted = listed(files, s.digests.ours)
	s.envelope, err = s.x.Attest(ctx, up)
	return err
}
