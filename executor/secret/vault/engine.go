package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"cleanroom/executor/secret"
)

// mount is the secret engine that serves a path.
type mount struct {
	path      string // with a slash at its end
	kind      string
	versioned bool // KV version 2
}

// stores says that the engine keeps what is written to it.
func (m mount) stores() bool { return m.kind == "kv" || m.kind == "generic" || m.kind == "cubbyhole" }

// mount asks which engine serves a path, as `vault kv` does.
func (v *Vault) mount(ctx context.Context, token, at string) (mount, error) {
	answer, err := v.call(ctx, token, "sys/internal/ui/mounts/"+at, nil)
	if err != nil {
		return mount{}, fmt.Errorf("%s: %w", at, refused(err, fmt.Sprintf("no such path, or not for this job: check the secret's path, or let a policy of %s read it", v.who())))
	}
	var m mount
	m.path, _ = answer.Data["path"].(string)
	m.kind, _ = answer.Data["type"].(string)
	if m.path == "" || m.kind == "" {
		return mount{}, fmt.Errorf("%s: Vault does not say which engine serves it: see whether the address is a Vault's", at)
	}
	options, _ := answer.Data["options"].(map[string]any)
	m.versioned = m.kind == "kv" && options["version"] == "2"
	return m, nil
}

// newest reads the newest version of a secret in KV version 2
// (https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2).
func (v *Vault) newest(ctx context.Context, token string, m mount, at string) (secret.Issued, error) {
	full := m.data(at)
	answer, err := v.call(ctx, token, full, nil)
	if status(err) == 404 {
		return secret.Issued{}, fmt.Errorf("%w: %s: nothing is there: check the secret's path, or write a first version", secret.ErrRefused, full)
	}
	if err != nil {
		return secret.Issued{}, fmt.Errorf("%s: %w", full, refused(err, fmt.Sprintf("let a policy of %s read this path", v.who())))
	}
	metadata, _ := answer.Data["metadata"].(map[string]any)
	number, _ := metadata["version"].(json.Number)
	data, _ := answer.Data["data"].(map[string]any)
	if data == nil {
		return secret.Issued{}, fmt.Errorf("%w: %s: its newest version, %s, is deleted: write a new one", secret.ErrRefused, full, number)
	}
	issued := secret.Issued{Version: number.String()}
	created, _ := metadata["created_time"].(string)
	issued.Rotated, _ = time.Parse(time.RFC3339Nano, created)
	issued.Fields, err = fields(full, data)
	return issued, err
}

// data is the API's path of a secret that is named as for `vault kv`, or by
// the API's path itself. (A secret of the name data/x has to be named by the
// latter, mount/data/data/x.)
func (m mount) data(at string) string {
	// Of a mount's path, namespaces may be left out at its beginning.
	for prefix := m.path; prefix != ""; _, prefix, _ = strings.Cut(prefix, "/") {
		if rest, ok := strings.CutPrefix(at, prefix); ok && strings.HasPrefix(rest, "data/") {
			return at
		} else if ok {
			return prefix + "data/" + rest
		}
	}
	return at
}

// generic reads any engine, or writes to it when there are parameters.
func (v *Vault) generic(ctx context.Context, r secret.Request, l login, m mount, at string, parameters map[string]any) (secret.Issued, error) {
	if len(parameters) == 0 {
		parameters = nil // a read
	}
	asked := time.Now()
	answer, err := v.call(ctx, l.token, at, parameters)
	if err != nil {
		advice := fmt.Sprintf("check the secret's path, or let a policy of %s read it", v.who())
		switch {
		case parameters != nil:
			advice = fmt.Sprintf("check the secret's path and parameters, or let a policy of %s update it", v.who())
		case status(err) == 405:
			advice = "this path has to be written to: give the secret parameters"
		}
		return secret.Issued{}, fmt.Errorf("%s: %w", at, refused(err, advice))
	}
	var issued secret.Issued
	if answer.LeaseID != "" {
		lease := secret.Lease{
			ID: answer.LeaseID, Credential: []byte(l.token),
			Expires: ends(asked, answer.LeaseDuration), Renewable: answer.Renewable,
		}
		if lease, err = v.keep(ctx, r, lease, l.expires); err != nil {
			return secret.Issued{}, err
		}
		if err := v.revocable(ctx, lease); err != nil {
			return secret.Issued{}, err
		}
		issued.Rotated, issued.Expires, issued.Revocable = asked, lease.Expires, true
	} else {
		issued.Rotated, issued.Expires = told(m.kind, answer.Data, asked)
	}
	issued.Fields, err = fields(at, answer.Data)
	return issued, err
}

// told is what the fields of a secret without a lease say of its age and end.
func told(kind string, data map[string]any, asked time.Time) (rotated, expires time.Time) {
	switch kind {
	case "database", "ldap": // a static role
		text, _ := data["last_vault_rotation"].(string)
		rotated, _ = time.Parse(time.RFC3339Nano, text)
		if ttl, ok := number(data["ttl"]); ok && !rotated.IsZero() {
			expires = asked.Add(time.Duration(ttl) * time.Second)
		}
	case "pki":
		if at, ok := number(data["expiration"]); ok {
			rotated, expires = asked, time.Unix(at, 0)
		}
	}
	return rotated, expires
}

// number reads a whole one that is neither negative nor absurd: seconds, at
// most those up to the year 9999.
func number(value any) (int64, bool) {
	n, _ := value.(json.Number)
	i, err := strconv.ParseInt(n.String(), 10, 64)
	return i, err == nil && i > 0 && i < 253402300800
}

// fields are strings as they are, and other values as compact JSON.
func fields(at string, data map[string]any) (map[string]string, error) {
	if len(data) == 0 {
		return nil, fmt.Errorf("%w: %s: it has no fields: write a value, or correct the secret's path", secret.ErrRefused, at)
	}
	list := make(map[string]string, len(data))
	for name, value := range data {
		if text, ok := value.(string); ok {
			list[name] = text
			continue
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(value); err != nil {
			return nil, fmt.Errorf("%s: field %s is no JSON", at, name)
		}
		list[name] = strings.TrimSuffix(b.String(), "\n")
	}
	return list, nil
}
