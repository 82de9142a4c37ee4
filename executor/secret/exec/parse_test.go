package exec

import (
	"maps"
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestParse(t *testing.T) {
	date := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name, out        string
		fields           map[string]string
		version, token   string
		expires, rotated time.Time
	}{
		{name: "value", out: "{\"value\": \"a\\nb\"}\n", fields: map[string]string{"value": "a\nb"}},
		{name: "all", out: ` {"fields": {"username": "u", "password": "p"}, "version": "v7", "expires": "2026-11-23T11:00:00+01:00", "rotated": "2026-11-23T10:00:00Z", "revoke_token": "t"} `,
			fields: map[string]string{"username": "u", "password": "p"}, version: "v7", token: "t", expires: date, rotated: date},
		{name: "number as a version", out: `{"value": "x", "version": 12345678901234567890, "Expiration": "2026-11-23T10:00:00Z"}`,
			fields: map[string]string{"value": "x"}, version: "12345678901234567890", expires: date},
		{name: "nulls", out: `{"value": "x", "fields": null, "version": null, "expires": null, "Expiration": null, "rotated": null, "revoke_token": null}`, fields: map[string]string{"value": "x"}},
		{name: "AWS", out: `{"Version": 1, "AccessKeyId": "AKIA", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": "2026-11-23T10:00:00Z", "AccountId": "1"}`,
			fields: map[string]string{"access_key_id": "AKIA", "secret_access_key": "s", "session_token": "t"}, expires: date},
		{name: "AWS that lasts", out: `{"Version": 1, "AccessKeyId": "AKIA", "SecretAccessKey": "s"}`, fields: map[string]string{"access_key_id": "AKIA", "secret_access_key": "s"}},
		{name: "kubectl", out: `{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "spec": {"interactive": false}, "status": {"expirationTimestamp": "2026-11-23T10:00:00Z", "token": "t"}}`,
			fields: map[string]string{"token": "t"}, expires: date},
		{name: "kubectl certificate", out: `{"kind": "ExecCredential", "status": {"clientCertificateData": "c", "clientKeyData": "k"}}`, fields: map[string]string{"client_certificate": "c", "client_key": "k"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, err := parse([]byte(test.out))
			if err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(a.fields, test.fields) || a.version != test.version || a.revokeToken != test.token || !a.expires.Equal(test.expires) || !a.rotated.Equal(test.rotated) {
				t.Errorf("%+v", a)
			}
		})
	}
}

func TestParseRefused(t *testing.T) {
	for _, test := range []struct{ out, want string }{
		{"", "printed nothing"},
		{" \n", "printed nothing"},
		{"canary", "no JSON object"},
		{`"canary"`, "no JSON object"},
		{`["canary"]`, "no JSON object"},
		{`null`, "no JSON object"},
		{`{"value": "canary"} {"value": "canary"}`, "no JSON object"},
		{`{"value": "canary"`, "no JSON object"},
		{"{\"value\": \"canary\xff\"}", "no JSON object"},
		{`{}`, "either value or fields"},
		{`{"value": null}`, "either value or fields"},
		{`{"value": "canary", "fields": {"a": "canary"}}`, "either value or fields"},
		{`{"value": ""}`, "value must be a text"},
		{`{"value": 12345678}`, "value must be a text"},
		{`{"value": ["canary"]}`, "value must be a text"},
		{`{"fields": {}}`, "fields must be an object"},
		{`{"fields": "canary"}`, "fields must be an object"},
		{`{"fields": {"a": ""}}`, "a must be a text"},
		{`{"fields": {"canary value": "x"}}`, "a name in fields"},
		{`{"value": "canary", "expire": "2026-11-23T10:00:00Z"}`, "a key is not known: use Expiration, expires"},
		{`{"Value": "canary"}`, "a key is not known"},
		{`{"value": "canary", "expires": "2026-11-23T10:00:00Z", "Expiration": "2026-11-23T10:00:00Z"}`, "give one"},
		{`{"value": "canary", "expires": "canary"}`, "expires must be a time of RFC 3339"},
		{`{"value": "canary", "expires": 1234}`, "expires must be a text"},
		{`{"value": "canary", "rotated": "yesterday"}`, "rotated must be"},
		{`{"value": "canary", "revoke_token": 7}`, "revoke_token must be"},
		{`{"value": "canary", "version": {}}`, "version must be"},
		{`{"value": "canary", "version": "a\nb"}`, "version must be of"},
		{`{"value": "canary", "version": "` + strings.Repeat("x", 300) + `"}`, "version must be of"},
		{`{"AccessKeyId": "canary", "SecretAccessKey": "canary"}`, "Version must be 1"},
		{`{"Version": 2, "AccessKeyId": "canary", "SecretAccessKey": "canary"}`, "Version must be 1"},
		{`{"Version": 1, "SecretAccessKey": "canary"}`, "AccessKeyId must be"},
		{`{"Version": 1, "AccessKeyId": "canary"}`, "SecretAccessKey must be"},
		{`{"Version": 1, "AccessKeyId": "canary", "SecretAccessKey": "canary", "Expiration": "soon"}`, "Expiration must be"},
		{`{"status": {"token": "canary"}}`, "kind must be ExecCredential"},
		{`{"kind": "ExecCredential", "status": "canary"}`, "status must be"},
		{`{"kind": "ExecCredential", "status": {}}`, "must have a token"},
		{`{"kind": "ExecCredential", "status": {"clientKeyData": "canary"}}`, "must have a token"},
		{`{"kind": "ExecCredential", "status": {"token": "canary", "expirationTimestamp": "canary"}}`, "expirationTimestamp must be"},
	} {
		a, err := parse([]byte(test.out))
		if a != nil || err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v, want %q", test.out, err, test.want)
		}
	}
}

// Whatever a program prints: values that a template can name, or one line with
// nothing of it.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, out []byte) {
		values(out)
		a, err := parse(out)
		if err != nil {
			text := err.Error()
			if a != nil || text == "" || len(text) > 300 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%+v %q", a, text)
			}
			return
		}
		if len(a.fields) == 0 || strings.ContainsFunc(a.version, unicode.IsControl) {
			t.Errorf("%+v", a)
		}
		hidden := values(out)
		for name, value := range a.fields {
			if !fieldRE().MatchString(name) || value == "" {
				t.Errorf("%q: %q", name, value)
			}
			found := false
			for _, h := range hidden {
				found = found || h == value
			}
			// A key that stands there twice: the last one counts, for both.
			if !found {
				t.Errorf("%q would not be hidden", value)
			}
		}
	})
}
