package answer

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"path"
	"strconv"
	"time"

	"cleanroom/integration/gitlab/job"
)

const keyID = "stand-in-signing-key"

// Signer holds the key that ID tokens are signed with.
type Signer struct {
	key *rsa.PrivateKey
}

// NewSigner makes a key.
func NewSigner() (*Signer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	return &Signer{key}, err
}

// idToken signs what GitLab would sign about a job.
func (s Server) idToken(h job.Handed, p Project, spec job.Spec, by Runner, audiences []string) (string, error) {
	src := h.Source
	now := time.Now()
	full := map[string]string{"branch": "refs/heads/", "tag": "refs/tags/"}[src.RefType] + src.Ref
	var aud any = audiences
	if len(audiences) == 1 {
		aud = audiences[0]
	}
	claims := map[string]any{
		"iss": s.URL.String(), "aud": aud, "jti": rand.Text(),
		"sub": fmt.Sprintf("project_path:%s:ref_type:%s:ref:%s", p.Path, src.RefType, src.Ref),
		"iat": now.Unix(), "nbf": now.Add(-5 * time.Second).Unix(), "exp": now.Add(spec.Timeout).Unix(),
		"namespace_id": strconv.FormatInt(src.ProjectID+3, 10), "namespace_path": path.Dir(p.Path),
		"project_id": strconv.FormatInt(src.ProjectID, 10), "project_path": p.Path, "project_visibility": "private",
		"user_id": strconv.FormatInt(spec.User.ID, 10), "user_login": spec.User.Login,
		"user_email": spec.User.Login + "@example.com", "user_access_level": "maintainer",
		"pipeline_id": strconv.FormatInt(src.PipelineID, 10), "pipeline_source": "push",
		"job_id": strconv.FormatInt(h.ID, 10), "ref": src.Ref, "ref_type": src.RefType, "ref_path": full,
		"ref_protected": strconv.FormatBool(src.Protected), "sha": src.SHA,
		"runner_id": by.ID, "runner_environment": "self-hosted",
		"ci_config_ref_uri": fmt.Sprintf("%s/%s//.gitlab-ci.yml@%s", s.URL.Host, p.Path, full), "ci_config_sha": src.SHA,
	}
	head, err := json.Marshal(map[string]string{"alg": "RS256", "typ": "JWT", "kid": keyID})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed := b64(head) + "." + b64(body)
	sum := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(rand.Reader, s.Signer.key, crypto.SHA256, sum[:])
	return signed + "." + b64(sig), err
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// Keys is the key set with which others verify ID tokens.
func (s *Signer) Keys() map[string]any {
	return map[string]any{"keys": []any{map[string]string{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": keyID,
		"n": b64(s.key.N.Bytes()), "e": b64(big.NewInt(int64(s.key.E)).Bytes()),
	}}}
}

// Discovery tells those who verify where the keys are.
func (s Server) Discovery() map[string]any {
	return map[string]any{
		"issuer":                                s.URL.String(),
		"jwks_uri":                              s.URL.String() + "/oauth/discovery/keys",
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"response_types_supported":              []string{"code"},
		"subject_types_supported":               []string{"public"},
	}
}
