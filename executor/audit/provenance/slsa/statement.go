package slsa

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gowebpki/jcs"
	slsa "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"cleanroom/executor/audit/provenance"
)

// What a statement says of itself.
const (
	BuildType     = "urn:cleanroom:gitlab-job:v1"
	PredicateType = "https://slsa.dev/provenance/v1"
)

// job is one of which a statement is made.
type job struct{ provenance.Job }

// New makes the statement: canonical JSON, not signed yet. hide gives a text
// without the job's secrets. Errors wrap provenance.ErrNoSubject or ErrJob.
func New(of provenance.Job, files []provenance.File, hide func(string) string) ([]byte, error) {
	job := job{of}
	text := func(s string) string { return strings.ToValidUTF8(hide(s), "\uFFFD") }
	subjects, withheld, err := subjectsOf(job.Artifacts, files, hide)
	if err != nil {
		return nil, err
	}
	made, err := job.provenance(withheld, text)
	if err == nil {
		err = made.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", provenance.ErrJob, err)
	}
	statement := &intoto.Statement{Type: intoto.StatementTypeUri, Subject: subjects, PredicateType: PredicateType, Predicate: &structpb.Struct{}}
	if err := remake(made, statement.Predicate); err != nil {
		return nil, err
	}
	if err := statement.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", provenance.ErrJob, err)
	}
	marshaled, err := protojson.Marshal(statement)
	if err != nil {
		return nil, err
	}
	canonical, err := jcs.Transform(marshaled) // protojson spaces at random, on purpose
	switch {
	case err != nil:
		return nil, err
	case len(canonical) > provenance.MaxStatement:
		return nil, fmt.Errorf("%w: the statement has %d bytes, more than %d: give artifacts shorter names", provenance.ErrJob, len(canonical), provenance.MaxStatement)
	}
	return canonical, nil
}

// remake has a message as another that is the same in JSON.
func remake(from, to proto.Message) error {
	text, err := protojson.Marshal(from)
	if err != nil {
		return err
	}
	return protojson.Unmarshal(text, to)
}

func (j job) provenance(withheld int, text func(string) string) (*slsa.Provenance, error) {
	external, err := j.external(text)
	if err != nil {
		return nil, err
	}
	internal, err := structpb.NewStruct(map[string]any{"profile": j.Profile, "stage": j.Stage, "withheld": withheld})
	if err != nil {
		return nil, err
	}
	if u, err := url.Parse(j.Builder); err != nil || u.Scheme == "" {
		return nil, fmt.Errorf("the builder's ID %q is no URI", j.Builder)
	}
	repository, err := url.Parse(j.Repository)
	if err != nil || repository.Host == "" { // its error would show the login
		return nil, errors.New("the repository's URL cannot be read")
	}
	repository = &url.URL{Scheme: repository.Scheme, Host: repository.Host, Path: repository.Path}
	dependencies, err := j.dependencies(repository, text)
	if err != nil {
		return nil, err
	}
	id, ok := j.Facts["job_id"].Value.(int64)
	if !ok {
		return nil, errors.New("the job's ID is not known")
	}
	return &slsa.Provenance{
		BuildDefinition: &slsa.BuildDefinition{
			BuildType: BuildType, ExternalParameters: external, InternalParameters: internal, ResolvedDependencies: dependencies,
		},
		RunDetails: &slsa.RunDetails{
			Builder: &slsa.Builder{Id: j.Builder, Version: map[string]string{"cleanroom": j.Version}},
			Metadata: &slsa.BuildMetadata{
				InvocationId: text(strings.TrimSuffix(repository.String(), ".git") + "/-/jobs/" + strconv.FormatInt(id, 10)),
				StartedOn:    timestamppb.New(j.Started.Truncate(time.Second)), FinishedOn: timestamppb.New(j.Finished.Truncate(time.Second)),
			},
		},
	}, nil
}

func (j job) external(text func(string) string) (*structpb.Struct, error) {
	facts := map[string]any{}
	for name, fact := range j.Facts {
		value := fact.Value
		switch v := value.(type) {
		case string:
			value = text(v)
		case int64: // JSON's numbers are not made for it
			value = strconv.FormatInt(v, 10)
		}
		facts[name] = map[string]any{"value": value, "source": text(fact.Source)}
	}
	var artifacts []any
	for _, a := range j.Artifacts {
		artifacts = append(artifacts, map[string]any{"type": text(a.Type), "name": text(a.Name)})
	}
	return structpb.NewStruct(map[string]any{"facts": facts, "artifacts": artifacts})
}

func (j job) dependencies(repository *url.URL, text func(string) string) ([]*intoto.ResourceDescriptor, error) {
	sha, _ := j.Facts["sha"].Value.(string)
	algorithm := "gitCommit"
	if len(sha) == 64 {
		algorithm = "gitCommitSha256" // in-toto's gitCommit has 20 bytes
	} else if len(sha) != 40 {
		return nil, errors.New("the commit is not known")
	}
	if _, err := hex.DecodeString(sha); err != nil {
		return nil, errors.New("the commit is no hash")
	}
	all := []*intoto.ResourceDescriptor{{Uri: text("git+" + repository.String()), Digest: map[string]string{algorithm: sha}}}
	for _, i := range j.Images {
		one := &intoto.ResourceDescriptor{Name: i.Role}
		id := i.ID
		if name, digest, ok := strings.Cut(i.Digest, "@"); ok {
			one.Uri, id = text("docker://"+name)+"@"+digest, digest
		} else {
			one.Annotations = annotations(map[string]any{"digestOf": "image id"})
		}
		sum, ok := strings.CutPrefix(id, "sha256:")
		if !ok {
			return nil, fmt.Errorf("the %s image has no sha256 digest", i.Role)
		}
		one.Digest = map[string]string{"sha256": sum}
		all = append(all, one)
	}
	return all, nil
}

// annotations are ours: of strings, numbers and lists of these, which have a
// form in JSON.
func annotations(of map[string]any) *structpb.Struct {
	s, err := structpb.NewStruct(of)
	if err != nil {
		panic(err)
	}
	return s
}
