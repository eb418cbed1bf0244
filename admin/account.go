package admin

import (
	"context"

	"herald/auth"
	"herald/store"
)

var accountCommands = []command{
	{"account create", "make an account, which owns what its users make", []string{"account-id", "account-name", "tenant", "email"}, (*Admin).accountCreate},
	{"account get", "show an account", []string{"account-id"}, (*Admin).accountGet},
	{"account list", "the ids of all accounts", nil, (*Admin).accountList},
	{"account rm", "remove an account without users", []string{"account-id"}, (*Admin).accountRm},
}

func (a *Admin) accountCreate(ctx context.Context, c *call) error {
	acc := &auth.Account{ID: c.accountID, Name: c.accountName, Tenant: c.tenant, Email: c.email}
	if acc.ID == "" {
		acc.ID = auth.NewAccountID()
	}
	if !auth.ValidAccountID(acc.ID) {
		return invalid("bad --account-id: RGW and 17 digits are expected")
	}
	if err := a.Users.CreateAccount(ctx, acc); err != nil {
		return err
	}
	return c.print(accountJSON(acc))
}

func (a *Admin) accountGet(ctx context.Context, c *call) error {
	acc, err := a.Users.Account(ctx, c.accountID)
	if err != nil {
		return err
	}
	return c.print(accountJSON(acc))
}

func (a *Admin) accountList(ctx context.Context, c *call) error {
	ids, err := a.Users.Accounts(ctx)
	if err != nil {
		return err
	}
	return c.print(append([]string{}, ids...))
}

func (a *Admin) accountRm(ctx context.Context, c *call) error {
	uids, err := a.Users.List(ctx)
	if err != nil {
		return err
	}
	for _, uid := range uids {
		if u, err := a.Users.Get(ctx, uid); err == nil && u.Account == c.accountID && u.Account != "" {
			return &exitError{exitNotEmpty, "user " + uid + " belongs to the account"}
		}
	}
	return a.Users.DeleteAccount(ctx, c.accountID)
}

// enter makes a user one of the account that --account-id names, if it does.
func (a *Admin) enter(ctx context.Context, c *call, u *auth.User) error {
	switch {
	case c.accountID == "" && c.accountRoot:
		return invalid("--account-root needs --account-id")
	case c.accountID == "":
		return nil
	case !c.accountRoot:
		return invalid("give --account-root too: other users of an account would need policies of their own, which are not there")
	}
	acc, err := a.Users.Account(ctx, c.accountID)
	if err != nil {
		return err
	}
	if acc.Tenant != u.Tenant {
		return invalid("the account's tenant is %q, the user's %q", acc.Tenant, u.Tenant)
	}
	if u.Account != "" && u.Account != acc.ID {
		return invalid("the user belongs to account %s", u.Account)
	}
	u.Account = acc.ID
	return nil
}

// userModify changes a user. One that comes to an account brings its buckets;
// its topics keep their names and stay its own (RGW). Run again after it was
// cut short, it brings the rest.
func (a *Admin) userModify(ctx context.Context, c *call) error {
	uid, err := c.user()
	if err != nil {
		return err
	}
	u, err := a.Users.Update(ctx, uid, func(u *auth.User) error {
		if c.displayName != "" {
			u.DisplayName = c.displayName
		}
		if c.email != "" {
			u.Email = c.email
		}
		return a.enter(ctx, c, u)
	})
	if err != nil {
		return err
	}
	if u.Account != "" {
		if err := a.bringBuckets(ctx, uid, u.Account); err != nil {
			return err
		}
	}
	return c.print(userJSON(u))
}

// bringBuckets gives the buckets of one owner to another.
func (a *Admin) bringBuckets(ctx context.Context, from, to string) error {
	list, err := a.Store.ListBuckets(ctx, func(b *store.BucketInfo) bool { return b.Owner == from })
	if err != nil {
		return err
	}
	for _, b := range list {
		err := a.Store.UpdateBucket(ctx, b.Tenant, b.Name, func(info *store.BucketInfo) error {
			if info.Owner == from {
				info.Owner = to
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// rgwAccount is an account as radosgw-admin prints it.
type rgwAccount struct {
	ID         string `json:"id"`
	Tenant     string `json:"tenant"`
	Name       string `json:"name"`
	Email      string `json:"email"`
	MaxUsers   int    `json:"max_users"`
	MaxBuckets int    `json:"max_buckets"`
}

func accountJSON(acc *auth.Account) rgwAccount {
	return rgwAccount{ID: acc.ID, Tenant: acc.Tenant, Name: acc.Name, Email: acc.Email, MaxUsers: 1000, MaxBuckets: 1000}
}
