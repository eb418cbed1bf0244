package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/sasl/oauth"
)

// tokenSource gets access tokens for OAUTHBEARER from an OAuth 2.0 token
// endpoint, by the grant client_credentials (RFC 6749 section 4.4).
type tokenSource struct {
	e   Endpoint
	url *url.URL

	mu      sync.Mutex // guards all below
	token   string
	refresh time.Time // when a new one is to be got
}

const (
	// maxTokenAnswer bounds a token endpoint's answer, in bytes.
	maxTokenAnswer = 64 << 10
	// maxTokenAge is how long a token is used that does not say for how long.
	maxTokenAge = 5 * time.Minute
)

// checkTokenURL refuses a URL with a user, which would be shown as other URLs of
// tokens are. Errors: ErrInvalidAttribute.
func checkTokenURL(s string) error {
	if u, err := url.Parse(s); err != nil || u.User != nil {
		return fmt.Errorf("%w: %s is no URL, or has a user", ErrInvalidAttribute, argTokenURL)
	}
	return nil
}

func newTokenSource(e Endpoint) (*tokenSource, error) {
	u, err := url.Parse(e.Arg(argTokenURL))
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
		return nil, errors.New(argTokenURL + " is no http(s) URL") // its text may hold a password
	}
	if e.Arg(argTokenID) == "" || e.Arg(argTokenSecret) == "" {
		return nil, fmt.Errorf("OAUTHBEARER needs %s and %s", argTokenID, argTokenSecret)
	}
	return &tokenSource{e: e, url: u}, nil
}

// auth is called for each connection.
func (s *tokenSource) auth(ctx context.Context) (oauth.Auth, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == "" || time.Now().After(s.refresh) {
		ctx, cancel := context.WithTimeout(ctx, s.e.Timeout)
		defer cancel()
		token, age, err := s.get(ctx)
		if err != nil {
			return oauth.Auth{}, fmt.Errorf("get a token: %w", err)
		}
		s.token, s.refresh = token, time.Now().Add(age*4/5)
	}
	return oauth.Auth{Token: s.token}, nil
}

// get asks the endpoint for a token.
func (s *tokenSource) get(ctx context.Context) (token string, age time.Duration, err error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	if scope := s.e.Arg(argTokenScope); scope != "" {
		form.Set("scope", scope)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.SetBasicAuth(url.QueryEscape(s.e.Arg(argTokenID)), url.QueryEscape(s.e.Arg(argTokenSecret)))
	conf, err := s.tlsConfig()
	if err != nil {
		return "", 0, err
	}
	transport := &http.Transport{DialContext: s.e.DialContext, TLSClientConfig: conf, TLSHandshakeTimeout: s.e.ConnectTimeout, DisableKeepAlives: true}
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenAnswer))
	switch {
	case err != nil:
		return "", 0, err
	case resp.StatusCode != http.StatusOK:
		return "", 0, fmt.Errorf("the token endpoint answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return parseToken(body)
}

// tlsConfig trusts the system's authorities and that of the brokers.
func (s *tokenSource) tlsConfig() (*tls.Config, error) {
	c := &tls.Config{InsecureSkipVerify: !s.e.BoolArg("verify-ssl", true)} //nolint:gosec // the topic's owner said so
	path := s.e.Arg("ca-location")
	if path == "" {
		return c, nil
	}
	data, err := s.e.readSmallFile(path)
	if err != nil {
		return nil, fmt.Errorf("ca-location: %w", err)
	}
	if c.RootCAs, err = x509.SystemCertPool(); err != nil {
		c.RootCAs = x509.NewCertPool()
	}
	c.RootCAs.AppendCertsFromPEM(data)
	return c, nil
}

// parseToken reads a token endpoint's answer.
func parseToken(body []byte) (token string, age time.Duration, err error) {
	var answer struct {
		Token   string      `json:"access_token"`
		Type    string      `json:"token_type"`
		Expires json.Number `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", 0, errors.New("the token endpoint's answer is no JSON document of RFC 6749") // it holds a secret
	}
	if answer.Token == "" || answer.Type != "" && !strings.EqualFold(answer.Type, "bearer") || !isToken(answer.Token) {
		return "", 0, errors.New("the token endpoint's answer has no bearer token")
	}
	age = maxTokenAge
	if n, err := answer.Expires.Int64(); err == nil && n > 0 && n < int64(24*time.Hour/time.Second) {
		age = time.Duration(n) * time.Second
	}
	return answer.Token, age, nil
}

// isToken tells whether a token may be sent: it must not end its field.
func isToken(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
