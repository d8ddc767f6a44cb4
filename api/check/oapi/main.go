// Command oapi goes the main path with the client that oapi-codegen makes with its default options.
package main

import (
	"check/oapi/client"
	"context"
	"fmt"
	"os"
)

func main() {
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "oapi:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, server string) error {
	c, err := client.NewClientWithResponses(server)
	if err != nil {
		return err
	}
	key := "oapi-1"
	opened, err := c.OpenAccountWithResponse(ctx, &client.OpenAccountParams{IdempotencyKey: &key},
		client.OpenAccount{Owner: "Ada", Currency: "EUR"})
	if err != nil || opened.JSON201 == nil {
		return fmt.Errorf("open: %w: %s", err, opened.Body)
	}
	account := opened.JSON201.AccountId
	movement := client.MoneyMovement{AccountId: account}
	if err := movement.Amount.FromDecimalInput0("12.34"); err != nil {
		return err
	}
	deposited, err := c.DepositWithResponse(ctx, nil, movement)
	if err != nil || deposited.JSON201 == nil {
		return fmt.Errorf("deposit: %w: %s", err, deposited.Body)
	}
	position := deposited.JSON201.Position
	refused, err := c.WithdrawWithResponse(ctx, nil, withAmount(account, "99"))
	if err != nil || refused.ApplicationproblemJSON422 == nil || refused.ApplicationproblemJSON422.Code != "insufficient-funds" {
		return fmt.Errorf("withdraw too much: %w: %s", err, refused.Body)
	}
	balance, err := c.GetBalanceWithResponse(ctx, account, &client.GetBalanceParams{MinPosition: &position})
	if err != nil || balance.JSON200 == nil || balance.JSON200.Balance != "12.34" {
		return fmt.Errorf("balance: %w: %s", err, balance.Body)
	}
	statement, err := c.ListTransactionsWithResponse(ctx, account, &client.ListTransactionsParams{MinPosition: &position})
	if err != nil || statement.JSON200 == nil || len(statement.JSON200.Transactions) != 1 {
		return fmt.Errorf("statement: %w: %s", err, statement.Body)
	}
	page, err := c.ListEventsWithResponse(ctx, &client.ListEventsParams{Subject: &account})
	if err != nil || page.ApplicationcloudeventsBatchJSON200 == nil {
		return fmt.Errorf("events: %w: %s", err, page.Body)
	}
	for _, event := range *page.ApplicationcloudeventsBatchJSON200 {
		value, err := event.ValueByDiscriminator()
		if err != nil {
			return err
		}
		if deposit, ok := value.(client.MoneyDepositedEvent); ok && deposit.Data.Amount == "12.34" && deposit.Data.Currency == "EUR" {
			fmt.Println("oapi-codegen: the main path is right")
			return nil
		}
	}
	return fmt.Errorf("events: no deposit of 12.34 EUR in %s", page.Body)
}

func withAmount(account client.AccountId, amount string) client.MoneyMovement {
	m := client.MoneyMovement{AccountId: account}
	_ = m.Amount.FromDecimalInput0(amount) // a string can be encoded
	return m
}
