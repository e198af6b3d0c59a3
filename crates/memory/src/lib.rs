//! Drivers, caching pool, planner, pages, budgets, policy and traces.
