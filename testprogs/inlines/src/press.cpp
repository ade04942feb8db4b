// A library of C++ as applications link them: a class template in a namespace, with functions that the compiler inlines.

namespace press {

struct Page {
    long number;
    volatile long ink;

    void print(long amount) {
        ink = amount; // cpp 0: press::Page::print(long)
    }
};

template <typename Amount> class Printer {
public:
    explicit Printer(Amount amount) : amount(amount) {}

    __attribute__((noinline)) long run(Page *page) {
        spread(page); // cpp 2: press::Printer<int>::run(press::Page*)
        return page->ink;
    }

private:
    void spread(Page *page) {
        page->print(amount + 1); // cpp 1: press::Printer<int>::spread(press::Page*)
    }

    Amount amount;
};

} // namespace press

extern "C" long press_run(press::Page *page) {
    press::Printer<int> printer(6);
    // Not the last thing that it does, else it would leave no frame.
    return printer.run(page) + 1; // cpp 3: press_run
}
