package notify

import (
	"context"
	"net/url"
)

type httpPusher struct{}

func newHTTPPusher(e Endpoint, u *url.URL) *httpPusher { return &httpPusher{} }

func (p *httpPusher) Push(ctx context.Context, events []Event) []Result { return nil }

func (p *httpPusher) Close() error { return nil }
