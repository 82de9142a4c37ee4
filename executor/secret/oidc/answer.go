package oidc

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"cleanroom/executor/secret"
	"cleanroom/executor/secret/quote"
)

// maxLifetime bounds what is believed of expires_in: beyond it a duration
// would overflow.
const maxLifetime = 100 * 365 * 24 * time.Hour

// answer of a token endpoint (RFC 6749, 5.1; RFC 8693, 2.2.1).
type answer struct {
	AccessToken  string  `json:"access_token"`
	TokenType    string  `json:"token_type"`
	ExpiresIn    seconds `json:"expires_in"`
	RefreshToken string  `json:"refresh_token"`
	Scope        string  `json:"scope"`
	IDToken      string  `json:"id_token"`
}

// seconds are a number, or what some providers make of it, a number in quotes.
// Zero: not given.
type seconds int64

func (s *seconds) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	n, err := strconv.ParseFloat(strings.Trim(string(text), `"`), 64)
	if err != nil || n < 0 || n > maxLifetime.Seconds() {
		return errors.New("bad number") // the caller has the words
	}
	*s = seconds(n)
	return nil
}

// parseAnswer reads a good answer. Its errors quote nothing of it.
func parseAnswer(body []byte) (*answer, error) {
	a := &answer{}
	if err := json.Unmarshal(body, a); err != nil {
		return nil, errors.New("its answer is not the JSON of a token response: see whether token_url is right")
	}
	if a.AccessToken == "" {
		return nil, errors.New("its answer holds no access_token: see whether token_url is right")
	}
	for name, token := range map[string]string{"access_token": a.AccessToken, "refresh_token": a.RefreshToken, "id_token": a.IDToken} {
		if strings.ContainsFunc(token, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
			return nil, fmt.Errorf("its %s has characters that no token may have (RFC 6749, appendix A.12)", name)
		}
	}
	return a, nil
}

func (a *answer) fields() map[string]string {
	fields := map[string]string{"access_token": a.AccessToken}
	for name, value := range map[string]string{"id_token": a.IDToken, "token_type": a.TokenType, "scope": a.Scope} {
		if value != "" {
			fields[name] = value
		}
	}
	if a.ExpiresIn > 0 {
		fields["expires_in"] = strconv.FormatInt(int64(a.ExpiresIn), 10)
	}
	return fields
}

// expires is when the access token ends by itself: what the provider says, or
// else the token, if it is a JWT. Zero: not known. Nobody checks the token's
// signature, since it came from who would have signed it.
func (a *answer) expires(asked time.Time) time.Time {
	if a.ExpiresIn > 0 {
		return asked.Add(time.Duration(a.ExpiresIn) * time.Second)
	}
	parts := strings.Split(a.AccessToken, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Expires float64 `json:"exp"`
	}
	if err != nil || json.Unmarshal(text, &claims) != nil || claims.Expires <= 0 || claims.Expires > float64(asked.Add(maxLifetime).Unix()) {
		return time.Time{}
	}
	return time.Unix(int64(claims.Expires), 0)
}

// fault is an answer that is no token: RFC 6749, 5.2, and RFC 7009, 2.2.1.
type fault struct {
	status int
	code   string // error; empty if the provider gives none
	words  string // error_description
}

func (f *fault) Error() string {
	text := "answered " + strconv.Itoa(f.status) + " " + http.StatusText(f.status)
	if f.status >= 300 && f.status < 400 {
		return text + ": redirects are not followed with credentials: set the address that it redirects to"
	}
	if f.code != "" {
		text += ": " + f.code
	}
	if f.words != "" {
		text += ": " + f.words
	}
	return strings.TrimSpace(text)
}

// Is makes a refusal what another try would not change.
func (f *fault) Is(target error) bool {
	again := []int{http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests}
	return target == secret.ErrRefused && f.status >= 300 && f.status < 500 && !slices.Contains(again, f.status) &&
		f.code != "temporarily_unavailable" && f.code != "server_error"
}

// parseFault reads a bad answer. Of its text only the two members of the
// standard are shown: providers echo requests, and pages of HTML help nobody.
func parseFault(status int, body []byte, hide []string) *fault {
	var text struct {
		Code  string `json:"error"`
		Words string `json:"error_description"`
	}
	f := &fault{status: status}
	if json.Unmarshal(body, &text) != nil {
		return f
	}
	f.code, f.words = quote.Text(text.Code, 64, hide...), quote.Text(text.Words, maxShown, hide...)
	return f
}
