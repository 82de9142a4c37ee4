package slsa

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strings"
	"unicode/utf8"

	intoto "github.com/in-toto/attestation/go/v1"

	"cleanroom/executor/audit/provenance"
)

// Bounds of subjects that are files: from there on they are lists. Sigstore's
// verifiers refuse a statement with more subjects than MaxSubjects.
const (
	MaxSubjects = 1024
	maxNames    = 512 << 10 // all their names together, in bytes
)

// subjectsOf are the files' own, or those of their lists.
func subjectsOf(artifacts []provenance.Artifact, files []provenance.File, hide func(string) string) (all []*intoto.ResourceDescriptor, withheld int, err error) {
	var told []provenance.File
	names := 0
	for _, f := range files {
		if f.SHA256 == nil {
			withheld++
			continue
		}
		f.Path = hide(f.Path)
		told = append(told, f)
		names += len(f.Path)
	}
	if len(told) == 0 {
		return nil, 0, provenance.ErrNoSubject
	}
	labels := make([]string, len(artifacts))
	for i, a := range artifacts {
		labels[i] = strings.ToValidUTF8(hide(a.String()), "\uFFFD")
	}
	slices.SortFunc(told, func(a, b provenance.File) int { return strings.Compare(a.Path, b.Path) })
	if len(told) > MaxSubjects || names > maxNames {
		all, err = lists(labels, told)
		return all, withheld, err
	}
	for _, f := range told {
		notes := map[string]any{}
		name, encoded := encode(f.Path)
		if encoded {
			notes["nameEncoding"] = "percent"
		}
		if len(f.Artifacts) > 0 {
			var of []any
			for _, i := range f.Artifacts {
				of = append(of, labels[i])
			}
			notes["artifacts"] = of
		}
		one := &intoto.ResourceDescriptor{Name: name, Digest: map[string]string{"sha256": hex.EncodeToString(f.SHA256)}}
		if len(notes) > 0 {
			one.Annotations = annotations(notes)
		}
		all = append(all, one)
	}
	return all, withheld, nil
}

// encode gives a path as UTF-8.
func encode(path string) (name string, encoded bool) {
	if utf8.ValidString(path) {
		return path, false
	}
	var b strings.Builder
	for rest := path; rest != ""; {
		r, n := utf8.DecodeRuneInString(rest)
		if r == '%' || r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, "%%%02X", rest[0])
		} else {
			b.WriteString(rest[:n])
		}
		rest = rest[n:]
	}
	return b.String(), true
}

// lists are a subject for each artifact, and one for files that are of none.
func lists(labels []string, files []provenance.File) (all []*intoto.ResourceDescriptor, err error) {
	made := make([]*list, len(labels)+1)
	for _, f := range files {
		of := f.Artifacts
		if len(of) == 0 {
			of = []int{len(labels)}
		}
		for _, i := range of {
			if made[i] == nil {
				made[i] = &list{sum: sha256.New()}
			}
			made[i].add(f)
		}
	}
	for i, l := range made {
		if l == nil {
			continue
		}
		name, notes := "files", map[string]any{"list": "sha256sum", "files": l.files}
		if i < len(labels) {
			name, notes["artifacts"] = "files of "+labels[i], []any{labels[i]}
		}
		all = append(all, &intoto.ResourceDescriptor{
			Name: name, MediaType: "text/plain", Annotations: annotations(notes),
			Digest: map[string]string{"sha256": hex.EncodeToString(l.sum.Sum(nil))},
		})
	}
	if len(all) > MaxSubjects {
		return nil, fmt.Errorf("%w: it has %d artifacts, at most %d are possible", provenance.ErrJob, len(all), MaxSubjects)
	}
	return all, nil
}

type list struct {
	sum   hash.Hash
	files int
}

// escaped is what GNU's sha256sum escapes in a name.
var escaped = strings.NewReplacer("\\", `\\`, "\n", `\n`, "\r", `\r`)

// add writes a line as sha256sum does.
func (l *list) add(f provenance.File) {
	name, mark := escaped.Replace(f.Path), ""
	if name != f.Path {
		mark = `\`
	}
	l.files++
	fmt.Fprintf(l.sum, "%s%x  %s\n", mark, f.SHA256, name)
}
