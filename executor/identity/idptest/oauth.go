package idptest

import (
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Grant types, and the token types of RFC 8693, section 3.
const (
	clientCredentials = "client_credentials"
	refreshToken      = "refresh_token"
	tokenExchange     = "urn:ietf:params:oauth:grant-type:token-exchange"

	typeAccessToken = "urn:ietf:params:oauth:token-type:access_token"
	typeIDToken     = "urn:ietf:params:oauth:token-type:id_token"
	typeJWT         = "urn:ietf:params:oauth:token-type:jwt"
)

// Grant is what the token endpoint gave to a client.
type Grant struct {
	Type, Client, Audience, Scope string
	Subject                       string // of the subject token; empty for client_credentials
	AccessToken, RefreshToken     string
	Expires                       time.Time
	Revoked                       bool
}

type trust struct {
	provider *Provider
	audience string
}

// AddClient makes a client known, by client_secret_basic and _post.
func (p *Provider) AddClient(id, secret string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clients[id] = secret
}

// Trust takes subject tokens of another provider (or of p itself) with this
// audience; empty means any. Without it no subject token is taken.
func (p *Provider) Trust(issuer *Provider, audience string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trusted = append(p.trusted, trust{issuer, audience})
}

// AllowAudiences bounds what may be asked for; none means all.
func (p *Provider) AllowAudiences(audiences ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.audiences = audiences
}

// SetLifetime of the access tokens; an hour if it is never called.
func (p *Provider) SetLifetime(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lifetime = d
}

// GiveRefreshTokens along with access tokens, or not (the default).
func (p *Provider) GiveRefreshTokens(give bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refresh = give
}

// Active says whether an access or refresh token is good: given by us,
// neither expired nor revoked.
func (p *Provider) Active(token string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.grant(token)
	return g != nil && !g.Revoked && (token == g.RefreshToken || time.Now().Before(g.Expires))
}

// Grants are all that were given, the oldest first.
func (p *Provider) Grants() []Grant {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Grant
	for _, g := range p.grants {
		all = append(all, *g)
	}
	return all
}

// grant finds by either token; p.mu is held.
func (p *Provider) grant(token string) *Grant {
	for _, g := range p.grants {
		if token != "" && (g.AccessToken == token || g.RefreshToken == token) {
			return g
		}
	}
	return nil
}

func refuse(w http.ResponseWriter, status int, code, description string) {
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="idptest"`)
	}
	answer(w, status, map[string]string{"error": code, "error_description": description})
}

// client authenticates as RFC 6749, section 2.3.1, says; empty is a refusal
// that was answered.
func (p *Provider) client(w http.ResponseWriter, r *http.Request) string {
	if err := r.ParseForm(); err != nil || r.URL.RawQuery != "" {
		refuse(w, http.StatusBadRequest, "invalid_request", "the parameters belong in the body")
		return ""
	}
	id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	if user, password, ok := r.BasicAuth(); ok {
		if secret != "" {
			refuse(w, http.StatusBadRequest, "invalid_request", "two ways of authentication at once")
			return ""
		}
		id, _ = url.QueryUnescape(user)
		secret, _ = url.QueryUnescape(password)
	}
	p.mu.Lock()
	want, known := p.clients[id]
	p.mu.Unlock()
	if !known || subtle.ConstantTimeCompare([]byte(want), []byte(secret)) != 1 {
		refuse(w, http.StatusUnauthorized, "invalid_client", "no such client, or another secret")
		return ""
	}
	return id
}

func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	client := p.client(w, r)
	if client == "" {
		return
	}
	form := r.PostForm
	g := &Grant{Type: form.Get("grant_type"), Client: client, Audience: form.Get("audience"), Scope: form.Get("scope")}
	switch g.Type {
	case clientCredentials:
	case refreshToken:
		p.mu.Lock()
		old := p.grant(form.Get("refresh_token"))
		good := old != nil && !old.Revoked && old.Client == client && old.RefreshToken == form.Get("refresh_token")
		if good {
			g.Audience, g.Scope, g.Subject = old.Audience, old.Scope, old.Subject
		}
		p.mu.Unlock()
		if !good {
			refuse(w, http.StatusBadRequest, "invalid_grant", "the refresh token is not good")
			return
		}
	case tokenExchange:
		kind := form.Get("subject_token_type")
		if form.Get("subject_token") == "" || kind != typeJWT && kind != typeIDToken {
			refuse(w, http.StatusBadRequest, "invalid_request", "subject_token, with subject_token_type jwt or id_token, is required")
			return
		}
		if want := form.Get("requested_token_type"); want != "" && want != typeAccessToken {
			refuse(w, http.StatusBadRequest, "invalid_request", "only access tokens are given")
			return
		}
		if g.Subject = p.subject(form.Get("subject_token")); g.Subject == "" {
			refuse(w, http.StatusBadRequest, "invalid_request", "the subject token is not good")
			return
		}
	default:
		refuse(w, http.StatusBadRequest, "unsupported_grant_type", "no such grant")
		return
	}

	p.mu.Lock()
	allowed := len(p.audiences) == 0 || slices.Contains(p.audiences, g.Audience)
	g.AccessToken, g.Expires = "at-"+random(), time.Now().Add(p.lifetime)
	body := map[string]any{"access_token": g.AccessToken, "token_type": "Bearer", "expires_in": int(p.lifetime.Seconds())}
	if p.refresh {
		g.RefreshToken = "rt-" + random()
		body["refresh_token"] = g.RefreshToken
	}
	if allowed {
		p.grants = append(p.grants, g)
	}
	p.mu.Unlock()
	if !allowed {
		refuse(w, http.StatusBadRequest, "invalid_target", "that audience is not given to anybody")
		return
	}
	if g.Type == tokenExchange {
		body["issued_token_type"] = typeAccessToken
	}
	if g.Scope != "" {
		body["scope"] = g.Scope
	}
	answer(w, http.StatusOK, body)
}

// subject is the sub of a good subject token, else empty.
func (p *Provider) subject(raw string) string {
	token, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil || len(token.Headers) != 1 {
		return ""
	}
	p.mu.Lock()
	trusted := slices.Clone(p.trusted)
	p.mu.Unlock()
	for _, t := range trusted {
		var keys jose.JSONWebKeySet
		if json.Unmarshal(t.provider.KeySet(), &keys) != nil {
			continue
		}
		for _, k := range keys.Key(token.Headers[0].KeyID) {
			var claims jwt.Claims
			if token.Claims(k.Key, &claims) != nil {
				continue
			}
			want := jwt.Expected{Issuer: t.provider.URL, Time: time.Now()}
			if t.audience != "" {
				want.AnyAudience = jwt.Audience{t.audience}
			}
			if claims.Expiry != nil && claims.ValidateWithLeeway(want, 0) == nil {
				return strings.TrimSpace(claims.Subject)
			}
		}
	}
	return ""
}

// revoke is RFC 7009: a token of another client is refused, one that is not
// known is no error, and with a refresh token goes its access token.
func (p *Provider) revoke(w http.ResponseWriter, r *http.Request) {
	client := p.client(w, r)
	if client == "" {
		return
	}
	token := r.PostForm.Get("token")
	if token == "" {
		refuse(w, http.StatusBadRequest, "invalid_request", "token is required")
		return
	}
	p.mu.Lock()
	g := p.grant(token)
	mine := g == nil || g.Client == client
	if g != nil && mine {
		g.Revoked = true
	}
	p.mu.Unlock()
	if !mine {
		refuse(w, http.StatusBadRequest, "invalid_grant", "the token is another client's")
		return
	}
	w.WriteHeader(http.StatusOK)
}
