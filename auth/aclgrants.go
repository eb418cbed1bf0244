package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// GranteeKind is how a request names a grantee.
type GranteeKind uint8

// The kinds.
const (
	GranteeID    GranteeKind = iota // of a user or an account
	GranteeGroup                    // a group's URI
	GranteeEmail                    // the e-mail address of a user or an account
)

// GrantRequest is a Grant as a request has it.
type GrantRequest struct {
	Kind       GranteeKind
	Name       string
	Permission Permission
}

// ParseGrants reads the value of an x-amz-grant- header:
// id="alice", uri=http://..., emailAddress="bob@example.com". Values with
// commas must be in quotes. Errors: *Error, InvalidArgument.
func ParseGrants(value string, p Permission) ([]GrantRequest, error) {
	var out []GrantRequest
	for rest := value; ; {
		kind, after, ok := strings.Cut(rest, "=")
		if !ok {
			return nil, errGrantHeader(value)
		}
		g := GrantRequest{Permission: p}
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "id":
			g.Kind = GranteeID
		case "uri":
			g.Kind = GranteeGroup
		case "emailaddress":
			g.Kind = GranteeEmail
		default:
			return nil, errGrantHeader(value)
		}
		if g.Name, rest, ok = cutGrantee(strings.TrimLeft(after, " ")); !ok {
			return nil, errGrantHeader(value)
		}
		if out = append(out, g); len(out) > MaxGrants {
			return nil, errTooManyGrants()
		}
		if rest == "" {
			return out, nil
		}
	}
}

// cutGrantee takes a value, which may be in quotes, off the beginning of s, and
// the comma behind it.
func cutGrantee(s string) (name, rest string, ok bool) {
	if quoted, found := strings.CutPrefix(s, `"`); found {
		if name, rest, found = strings.Cut(quoted, `"`); !found {
			return "", "", false
		}
		after, more := strings.CutPrefix(strings.TrimLeft(rest, " "), ",")
		if !more && after != "" || more && after == "" {
			return "", "", false
		}
		return name, after, name != ""
	}
	name, rest, more := strings.Cut(s, ",")
	name = strings.TrimSpace(name)
	return name, rest, name != "" && !(more && rest == "")
}

func errGrantHeader(value string) *Error {
	return refuse(CodeInvalidArgument, "grants are written id=ID, uri=URI or emailAddress=ADDRESS, with commas between them",
		Detail{"ArgumentName", "x-amz-grant"}, Detail{"ArgumentValue", value})
}

func errTooManyGrants() *Error {
	return refuse(CodeLimitExceeded, fmt.Sprintf("an ACL may have %d grants at most", MaxGrants))
}

// ResolveGrants makes an ACL of what a request asks for. Grantees must exist.
// Errors: *Error, InvalidArgument, LimitExceeded,
// UnresolvableGrantByEmailAddress, AmbiguousGrantByEmailAddress; any other is
// the store's.
func (s *Users) ResolveGrants(ctx context.Context, owner string, requests []GrantRequest) (ACL, error) {
	if len(requests) > MaxGrants {
		return nil, errTooManyGrants()
	}
	a := make(ACL, 0, len(requests))
	var emails map[string][]string
	for _, q := range requests {
		var who string
		var err error
		switch q.Kind {
		case GranteeGroup:
			if who = q.Name; who != AllUsers && who != AuthenticatedUsers {
				return nil, refuse(CodeInvalidArgument, "Invalid group uri", Detail{"ArgumentName", "URI"}, Detail{"ArgumentValue", q.Name})
			}
		case GranteeEmail:
			if emails == nil {
				emails, err = s.emails(ctx)
			}
			if err == nil {
				who, err = granteeOf(emails, q.Name)
			}
		default:
			who, err = q.Name, s.checkGrantee(ctx, owner, q.Name)
		}
		if err != nil {
			return nil, err
		}
		if who == owner {
			who = OwnerGrantee
		}
		a = append(a, Grant{who, q.Permission})
	}
	return a, nil
}

// checkGrantee tells whether there is a user or an account of that id. The
// owner may be named although it is no more. Errors: *Error, InvalidArgument.
func (s *Users) checkGrantee(ctx context.Context, owner, id string) error {
	if id == AnonymousID || id != "" && id == owner {
		return nil
	}
	_, err := s.Get(ctx, id)
	if ValidAccountID(id) {
		_, err = s.Account(ctx, id)
	}
	if errors.Is(err, ErrNoSuchUser) || errors.Is(err, ErrNoSuchAccount) {
		return refuse(CodeInvalidArgument, "Invalid id", Detail{"ArgumentName", "CanonicalUser/ID"}, Detail{"ArgumentValue", id})
	}
	return err
}

// emails reads all users and accounts, and returns whose an e-mail address is,
// in lower case: accounts stand for their users.
func (s *Users) emails(ctx context.Context) (map[string][]string, error) {
	of := make(map[string][]string)
	add := func(email, id string) {
		if email = strings.ToLower(email); email != "" && !slices.Contains(of[email], id) {
			of[email] = append(of[email], id)
		}
	}
	uids, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, uid := range uids {
		u, err := s.Get(ctx, uid)
		if errors.Is(err, ErrNoSuchUser) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		add(u.Email, u.Owner())
	}
	ids, err := s.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		acc, err := s.Account(ctx, id)
		if errors.Is(err, ErrNoSuchAccount) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		add(acc.Email, acc.ID)
	}
	return of, nil
}

func granteeOf(emails map[string][]string, email string) (string, error) {
	switch ids := emails[strings.ToLower(email)]; len(ids) {
	case 0:
		return "", refuse(CodeUnresolvableEmail, "The e-mail address you provided does not match any account on record.",
			Detail{"EmailAddress", email})
	case 1:
		return ids[0], nil
	}
	return "", refuse(CodeAmbiguousEmail, "The e-mail address you provided is that of several accounts.",
		Detail{"EmailAddress", email})
}
