"""What is remembered: tables, transactions and one module per aggregate. Only this package imports sqlalchemy."""
