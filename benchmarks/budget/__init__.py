"""How many partial choices and how long does an exact budget take, against solvers?"""
