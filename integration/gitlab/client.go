package gitlab

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
)

// Client is an Instance that runs elsewhere.
type Client struct {
	url   string
	token string
	http  *http.Client
}

// NewClient returns a client for the stand-in at a URL. Give the PEM of its certificate if it is one of its own.
func NewClient(address, controlToken string, certificate []byte) (*Client, error) {
	c := &Client{url: strings.TrimRight(address, "/"), token: controlToken, http: &http.Client{}}
	if certificate != nil {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(certificate) {
			return nil, fmt.Errorf("the stand-in's certificate is not PEM")
		}
		c.http.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	}
	return c, nil
}

// do sends a request and decodes the answer into out, which may be a *[]byte for what is not JSON.
func (c *Client) do(ctx context.Context, method, path, contentType string, body io.Reader, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.url+"/control"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set(controlHeader, c.token)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		return fmt.Errorf("stand-in: %s: %s", res.Status, strings.TrimSpace(string(text)))
	}
	if raw, ok := out.(*[]byte); ok {
		*raw, err = io.ReadAll(res.Body)
		return err
	}
	return json.NewDecoder(res.Body).Decode(out)
}

func (c *Client) get(ctx context.Context, out any, format string, args ...any) error {
	return c.do(ctx, http.MethodGet, fmt.Sprintf(format, args...), "", nil, out)
}

func (c *Client) post(ctx context.Context, body, out any, format string, args ...any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodPost, fmt.Sprintf(format, args...), "application/json", bytes.NewReader(b), out)
}

type answerID struct {
	ID int64 `json:"id"`
}

// Info is what runners and users of the REST API have to be configured with.
type Info struct {
	URL         string `json:"url"`
	RunnerToken string `json:"runner_token"`
	AccessToken string `json:"access_token"` // for the REST API
	Seed        uint64 `json:"seed"`
	Awkward     bool   `json:"awkward"`
}

// Info asks the stand-in about itself; it is also the way to see whether it is up.
func (c *Client) Info(ctx context.Context) (i Info, err error) {
	err = c.get(ctx, &i, "/info")
	return i, err
}

// AddProject implements Instance.
func (c *Client) AddProject(ctx context.Context, p Project) (string, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	settings, err := form.CreateFormField("project")
	if err != nil {
		return "", err
	}
	if err := json.NewEncoder(settings).Encode(p); err != nil {
		return "", err
	}
	files, err := form.CreateFormFile("files", "files.tar")
	if err != nil {
		return "", err
	}
	if err := pack(files, p.Dir); err != nil {
		return "", err
	}
	if err := form.Close(); err != nil {
		return "", err
	}
	var out struct{ SHA string }
	err = c.do(ctx, http.MethodPost, "/projects", form.FormDataContentType(), &body, &out)
	return out.SHA, err
}

// Submit implements Instance.
func (c *Client) Submit(ctx context.Context, spec JobSpec) (int64, error) {
	var out answerID
	err := c.post(ctx, spec, &out, "/jobs")
	return out.ID, err
}

// Pipeline implements Instance.
func (c *Client) Pipeline(ctx context.Context, project, ref string) (int64, error) {
	var out answerID
	err := c.post(ctx, nil, &out, "/pipelines?project=%s&ref=%s", url.QueryEscape(project), url.QueryEscape(ref))
	return out.ID, err
}

// Cancel implements Instance.
func (c *Client) Cancel(ctx context.Context, id int64, gracefully bool) error {
	return c.post(ctx, nil, &struct{}{}, "/jobs/%d/cancel?gracefully=%t", id, gracefully)
}

func (c *Client) job(ctx context.Context, format string, args ...any) (st JobStatus, err error) {
	if err = c.get(ctx, &st, format, args...); err != nil {
		return st, err
	}
	err = c.get(ctx, &st.Trace, "/jobs/%d/trace", st.ID)
	return st, err
}

// Job implements Instance.
func (c *Client) Job(ctx context.Context, id int64) (JobStatus, error) {
	return c.job(ctx, "/jobs/%d", id)
}

// Jobs implements Instance.
func (c *Client) Jobs(ctx context.Context) (all []JobStatus, err error) {
	err = c.get(ctx, &all, "/jobs")
	return all, err
}

// Wait implements Instance.
func (c *Client) Wait(ctx context.Context, id int64) (JobStatus, error) {
	return c.job(ctx, "/jobs/%d?wait", id)
}

// Forget drops the trace of a job that is over: a stand-in holds all it has been told in memory.
func (c *Client) Forget(ctx context.Context, id int64) error {
	return c.do(ctx, http.MethodDelete, fmt.Sprintf("/jobs/%d/trace", id), "", nil, &struct{}{})
}

// WaitTrace implements Instance.
func (c *Client) WaitTrace(ctx context.Context, id int64, text string) (JobStatus, error) {
	return c.job(ctx, "/jobs/%d?trace=%s", id, url.QueryEscape(text))
}

// PipelineStatus implements Instance.
func (c *Client) PipelineStatus(ctx context.Context, id int64) (st PipelineStatus, err error) {
	err = c.get(ctx, &st, "/pipelines/%d", id)
	return st, err
}

// WaitPipeline implements Instance.
func (c *Client) WaitPipeline(ctx context.Context, id int64) (st PipelineStatus, err error) {
	err = c.get(ctx, &st, "/pipelines/%d?wait", id)
	return st, err
}

// Events implements Instance.
func (c *Client) Events(ctx context.Context, seq int) (events []Event, err error) {
	err = c.get(ctx, &events, "/events?after=%d", seq)
	return events, err
}

// Artifact implements Instance.
func (c *Client) Artifact(ctx context.Context, id int64, kind string) (body []byte, err error) {
	err = c.get(ctx, &body, "/jobs/%d/artifacts/%s", id, url.PathEscape(kind))
	return body, err
}
