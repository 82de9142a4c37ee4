package provenance

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

	"cleanroom/executor/identity"
)

// What a statement says of itself.
const (
	BuildType     = "urn:cleanroom:gitlab-job:v1"
	PredicateType = "https://slsa.dev/provenance/v1"
)

// MaxStatement bounds a statement, in bytes.
const MaxStatement = 2 << 20

// Errors of making a statement.
var (
	// ErrNoSubject is a job that stores no regular file, or none that may be
	// told of.
	ErrNoSubject = errors.New("the job stores no file that provenance could be about")
	// ErrJob is a job of which not enough, or too much, is known.
	ErrJob = errors.New("no provenance can be made for this job")
)

// Job is what is said of a job.
type Job struct {
	Facts      identity.Facts
	Repository string // git_info.repo_url; the login in it is left out
	Images     []Image
	Artifacts  []Artifact
	Stage      string // the runner's, which stores the files
	Profile    string

	Builder string // the URI of what ran the job, as its admin names it
	Version string // of cleanroom

	Started, Finished time.Time // kept to the second
}

// Image is one that a container of the room was made of.
type Image struct {
	Role   string // helper, job, service
	Digest string // NAME@sha256:HEX, if a registry gave one
	ID     string // the engine's, sha256:HEX
}

// Artifact is one that the job stores.
type Artifact struct {
	Type string // artifact, or the report's type
	Name string // as .gitlab-ci.yml has it
}

func (a Artifact) String() string {
	if a.Name == "" {
		return a.Type
	}
	return a.Type + " " + a.Name
}

// New makes the statement: canonical JSON, not signed yet. hide gives a text
// without the job's secrets. Errors wrap ErrNoSubject or ErrJob.
func New(job Job, files []File, hide func(string) string) ([]byte, error) {
	text := func(s string) string { return strings.ToValidUTF8(hide(s), "\uFFFD") }
	subjects, withheld, err := subjectsOf(job.Artifacts, files, hide)
	if err != nil {
		return nil, err
	}
	provenance, err := job.provenance(withheld, text)
	if err == nil {
		err = provenance.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrJob, err)
	}
	statement := &intoto.Statement{Type: intoto.StatementTypeUri, Subject: subjects, PredicateType: PredicateType, Predicate: &structpb.Struct{}}
	if err := remake(provenance, statement.Predicate); err != nil {
		return nil, err
	}
	if err := statement.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrJob, err)
	}
	marshaled, err := protojson.Marshal(statement)
	if err != nil {
		return nil, err
	}
	canonical, err := jcs.Transform(marshaled) // protojson spaces at random, on purpose
	switch {
	case err != nil:
		return nil, err
	case len(canonical) > MaxStatement:
		return nil, fmt.Errorf("%w: the statement has %d bytes, more than %d: give artifacts shorter names", ErrJob, len(canonical), MaxStatement)
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

func (j Job) provenance(withheld int, text func(string) string) (*slsa.Provenance, error) {
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

func (j Job) external(text func(string) string) (*structpb.Struct, error) {
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

func (j Job) dependencies(repository *url.URL, text func(string) string) ([]*intoto.ResourceDescriptor, error) {
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
