// Command ogen goes the main path with the client that ogen makes, which checks every answer it reads.
package main

import (
	"check/ogen/client"
	"context"
	"fmt"
	"os"

	"github.com/google/uuid"
	"github.com/ogen-go/ogen/ogenerrors"
)

func main() {
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "ogen:", err)
		os.Exit(1)
	}
}

// anonymous has no credential: by default the server asks for none.
type anonymous struct{}

func (anonymous) Bearer(context.Context, client.OperationName) (client.Bearer, error) {
	return client.Bearer{}, ogenerrors.ErrSkipClientSecurity
}

func run(ctx context.Context, server string) error {
	c, err := client.NewClient(server, anonymous{})
	if err != nil {
		return err
	}
	opened, err := c.OpenAccount(ctx, &client.OpenAccount{Owner: "Ada", Currency: "EUR"},
		client.OpenAccountParams{IdempotencyKey: client.NewOptString("ogen-1")})
	receipt, ok := opened.(interface{ GetResponse() client.Receipt })
	if err != nil || !ok {
		return fmt.Errorf("open: %w: %+v", err, opened)
	}
	account := receipt.GetResponse().AccountID
	deposited, err := c.Deposit(ctx, movement(account, "12.34"), client.DepositParams{})
	deposit, ok := deposited.(interface{ GetResponse() client.Receipt })
	if err != nil || !ok {
		return fmt.Errorf("deposit: %w: %#v", err, deposited)
	}
	position := client.NewOptInt64(deposit.GetResponse().Position)
	refused, err := c.Withdraw(ctx, movement(account, "99"), client.WithdrawParams{})
	if problem, ok := refused.(*client.WithdrawUnprocessableEntity); err != nil || !ok || problem.Response.Code != "insufficient-funds" {
		return fmt.Errorf("withdraw too much: %w: %+v", err, refused)
	}
	answered, err := c.GetBalance(ctx, client.GetBalanceParams{AccountID: account, MinPosition: position})
	balance, ok := answered.(*client.BalanceHeaders)
	if err != nil || !ok || balance.Response.Balance != "12.34" {
		return fmt.Errorf("balance: %w: %+v", err, answered)
	}
	listed, err := c.ListTransactions(ctx, client.ListTransactionsParams{AccountID: account, MinPosition: position})
	statement, ok := listed.(*client.TransactionPageHeaders)
	if err != nil || !ok || len(statement.Response.Transactions) != 1 {
		return fmt.Errorf("statement: %w: %+v", err, listed)
	}
	feed, err := c.ListEvents(ctx, client.ListEventsParams{Subject: client.NewOptUUID(account)})
	page, ok := feed.(*client.ListEventsOKApplicationCloudeventsBatchJSONHeaders)
	if err != nil || !ok {
		return fmt.Errorf("events: %w: %+v", err, feed)
	}
	for _, event := range page.Response {
		if e, ok := event.GetMoneyDepositedEvent(); ok && e.Data.Amount == "12.34" && e.Data.Currency == "EUR" {
			fmt.Println("ogen: the main path is right")
			return nil
		}
	}
	return fmt.Errorf("events: no deposit of 12.34 EUR in %+v", page.Response)
}

func movement(account uuid.UUID, amount string) *client.MoneyMovement {
	return &client.MoneyMovement{AccountID: account, Amount: client.NewStringDecimalInput(amount)}
}
