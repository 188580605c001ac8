-- Something to look at in the primary of docker-compose.yml. Capture needs none of this: it sets itself up,
-- says what it does, and `postgres-test-replay teardown` removes it.

CREATE TABLE customers (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    email      text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE orders (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customers (id),
    amount      numeric(12, 2) NOT NULL CHECK (amount >= 0),
    status      text NOT NULL DEFAULT 'new',
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX orders_customer_id ON orders (customer_id);

INSERT INTO customers (name, email) VALUES
    ('Ada', 'ada@example.com'),
    ('Grace', 'grace@example.com');

INSERT INTO orders (customer_id, amount) VALUES (1, 19.90), (1, 5.00), (2, 120.00);
